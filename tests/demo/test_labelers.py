"""The simulator itself: its laws against closed forms, at fixed seeds."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from demo.labelers import Labeler, Tiers, population, rank, shuffled, utilities

HONEST = Labeler("plain", temperature=0.7, random_rate=0.0, tie_threshold=0.0)
DRAWS = 20_000


def outcomes(labeler: Labeler, worth: list[float], seed: int = 0, **more: float) -> Counter[str]:
    rng = np.random.default_rng(seed)
    return Counter(str(rank(labeler, np.array(worth), rng, **more)) for _ in range(DRAWS))


def assert_law(seen: Counter[str], law: dict[str, float]) -> None:
    assert set(seen) <= set(law)
    assert sum(law.values()) == pytest.approx(1)
    observed = [seen[outcome] for outcome in law]
    assert chisquare(observed, [DRAWS * probability for probability in law.values()]).pvalue > 0.001


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def pair_law(labeler: Labeler, first: float, second: float) -> dict[str, float]:
    """Section 3 of the algorithms page: z = s D / T + b + Logistic; A if z > tau, B if z < -tau, else a tie."""
    gap = labeler.sign * (first - second) / labeler.temperature + labeler.position_bias
    a, b = sigmoid(gap - labeler.tie_threshold), sigmoid(-gap - labeler.tie_threshold)
    eps = labeler.random_rate
    law = {"[[0], [1]]": a, "[[1], [0]]": b, "tie": 1 - a - b}
    return {outcome: eps / 3 + (1 - eps) * p for outcome, p in law.items()}


def as_pair(seen: Counter[str]) -> Counter[str]:
    ties = seen.pop("[[0, 1]]", 0) + seen.pop("[[1, 0]]", 0)
    return seen + Counter({"tie": ties})


@pytest.mark.parametrize(
    "labeler",
    [
        replace(HONEST, tie_threshold=0.3),
        replace(HONEST, tie_threshold=1.0, position_bias=0.8),
        replace(HONEST, tie_threshold=0.5, random_rate=0.2),
        replace(HONEST, tie_threshold=0.5, sign=-1),
        replace(HONEST, random_rate=1.0),
    ],
)
def test_two_completions_follow_the_law_of_pairs(labeler: Labeler) -> None:
    assert_law(as_pair(outcomes(labeler, [0.4, 0.0])), pair_law(labeler, 0.4, 0.0))


def test_k_completions_follow_plackett_luce() -> None:
    worth = [0.5, 0.0, -0.3, 0.8]
    strengths = np.exp(np.array(worth) / HONEST.temperature)
    law = {}
    for order in itertools.permutations(range(4)):
        left = [strengths[list(order[place:])].sum() for place in range(4)]
        law[str([[index] for index in order])] = float(np.prod(strengths[list(order)] / left))
    assert_law(outcomes(HONEST, worth), law)


def test_a_cold_labeler_always_gives_the_true_order() -> None:
    cold = replace(HONEST, temperature=1e-6, tie_threshold=0.1)
    assert outcomes(cold, [0.1, 0.9, -0.5]) == {"[[1], [0], [2]]": DRAWS}
    assert outcomes(replace(cold, sign=-1), [0.1, 0.9, -0.5]) == {"[[2], [0], [1]]": DRAWS}


def test_swapping_the_sides_leaves_the_law_unchanged_without_position_bias() -> None:
    fair = replace(HONEST, tie_threshold=0.4, random_rate=0.1)
    swapped = pair_law(fair, 0.0, 0.6)
    mirrored = {"[[0], [1]]": swapped["[[1], [0]]"], "[[1], [0]]": swapped["[[0], [1]]"], "tie": swapped["tie"]}
    assert_law(as_pair(outcomes(fair, [0.6, 0.0])), mirrored)


def test_position_bias_favours_what_is_shown_first_and_fatigue_adds_random_answers() -> None:
    biased = outcomes(replace(HONEST, position_bias=0.8), [0.0, 0.0, 0.0])
    assert biased["[[0], [1], [2]]"] > 1.5 * biased["[[2], [1], [0]]"]
    tired = replace(HONEST, temperature=1e-6, tie_threshold=0.1, fatigue=0.1)
    wrong = DRAWS - outcomes(tired, [1.0, 0.0], hours=3.0)["[[0], [1]]"]
    assert wrong / DRAWS == pytest.approx(0.3 * 2 / 3, abs=0.02)


def test_the_population_has_its_twenty_people_and_depends_on_the_seed() -> None:
    people = population(0)
    assert Counter(person.kind for person in people) == {
        "good": 10,
        "vague": 3,
        "position-biased": 2,
        "spammer": 2,
        "adversary": 1,
        "style-lover": 2,
    }
    assert people == population(0) != population(1)
    assert all(0.5 <= person.temperature <= 1.0 for person in people)


def test_a_good_labeler_prefers_the_good_reply_and_a_style_lover_likes_words() -> None:
    prompt = "My kettle has not arrived."
    replies = [
        "Sorry for the trouble. We will find out where your kettle is.",
        "Stop complaining. I do not know.",
        "Sorry for the trouble. We will find out where your kettle is. Have a nice day.",
    ]
    good = utilities(HONEST, prompt, replies)
    assert good[0] > good[2] > good[1]
    lover = utilities(replace(HONEST, style=2.0), prompt, replies)
    assert lover[2] > lover[0]


def test_shuffled_labels_keep_the_tier_sizes_and_carry_no_preference() -> None:
    rng = np.random.default_rng(0)
    tiers: Tiers = [[2], [0, 1], [3]]
    dealt = [shuffled(tiers, rng) for _ in range(4000)]
    assert all([len(tier) for tier in one] == [1, 2, 1] for one in dealt)
    assert all(sorted(itertools.chain(*one)) == [0, 1, 2, 3] for one in dealt)
    best = Counter(one[0][0] for one in dealt)
    assert chisquare([best[index] for index in range(4)]).pvalue > 0.001
