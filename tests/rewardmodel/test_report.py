"""Calibration and the report on held-out comparisons: against simulated people whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from rewardmodel.data import Item, Label
from rewardmodel.report import LABELERS, held_out_report
from rewardmodel.stats.calibration import calibration
from rewardmodel.stats.errors import InvalidComparison, NothingToFit
from rewardmodel.turn_report import TURNS_SHOWN, turn_examples


def simulated(pairs: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is `sharpness` times as sure as the people are, and what they said."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(0, 2, pairs)
    return sharpness * gaps, (rng.random(pairs) < expit(gaps)).astype(float)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_sure_of_itself_a_model_is(sharpness: float) -> None:
    found = calibration(*simulated(40_000, sharpness))
    assert found.temperature == pytest.approx(sharpness, rel=0.05)
    assert (found.error < 0.01) == (sharpness == 1.0)


def test_brier_score_of_a_coin_and_of_an_oracle() -> None:
    assert calibration([0.0, 0.0], [1, 0]).brier == 0.25
    assert calibration([50.0, -50.0], [1, 0]).brier == pytest.approx(0)


def test_which_of_two_is_called_first_means_nothing() -> None:
    gaps, seen = simulated(500, 2.0)
    flip = np.arange(500) % 2 == 0
    turned = calibration(np.where(flip, -gaps, gaps), np.where(flip, 1 - seen, seen))
    assert turned == calibration(gaps, seen)


def test_bins_hold_all_pairs_between_a_half_and_one() -> None:
    found = calibration(*simulated(1000, 1.0), bins=5)
    assert sum(one.weight for one in found.bins) == 1000
    for one in found.bins:
        assert 0.5 <= one.low <= one.predicted <= one.high <= 1


def test_what_cannot_be_calibrated_is_refused_with_a_reason() -> None:
    with pytest.raises(NothingToFit):
        calibration([], [])
    with pytest.raises(InvalidComparison, match="finite"):
        calibration([float("nan")], [1.0])
    with pytest.raises(InvalidComparison, match="between 0 and 1"):
        calibration([1.0], [2.0])


def item(number: int, texts: list[str], labels: list[tuple[str, list[list[int]]]], *sources: str) -> Item:
    completions = tuple(({"role": "assistant", "content": text},) for text in texts)
    given = tuple(Label(tuple(map(tuple, tiers)), person) for person, tiers in labels)
    prompt = ({"role": "user", "content": f"Question {number}?"},)
    return Item(str(number), prompt, completions, given, str(number), sources)


def by_name(report: dict, name: str) -> dict:
    return next(one for one in report["slices"] if one["name"] == name)


def test_slices_ceiling_and_surprises_of_a_small_set() -> None:
    items = [
        item(1, ["short", "much longer than that"], [("ann", [[1], [0]]), ("bob", [[1], [0]])]),
        item(2, ["short", "much longer than that"], [("ann", [[0], [1]]), ("bob", [[1], [0]])]),
        item(3, ["abcde", "fghij"], [("ann", [[0], [1]])]),
        item(4, ["abcde", "fghij"], [("ann", [[0, 1]])]),
    ]
    report = held_out_report(items, [[0.0, 2.0], [0.0, 1.0], [3.0, 3.0], [9.0, 0.0]])
    assert report["pairs"] == 5, "a tie is no pair"
    assert report["accuracy"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 3), "each prompt weighs the same"
    assert by_name(report, "people agree")["accuracy"]["value"] == 1
    assert by_name(report, "people differ")["accuracy"]["value"] == 0.5
    assert by_name(report, "about equal")["pairs"] == 1
    assert by_name(report, "shorter one preferred")["accuracy"]["value"] == 0
    assert report["people"]["comparisons"] == 2
    assert report["people"]["agreement"] == 0.5
    assert report["people"]["ceiling"] == 0.5
    assert {one["name"]: one["pairs"] for one in report["people"]["labelers"]} == {"ann": 3, "bob": 2}
    assert report["length"] == {"people": 0.75, "model": 1.0}
    [surprise] = report["surprises"]
    assert (surprise["item"], surprise["labeler"], surprise["chosen"]) == ("2", "ann", "short")
    assert surprise["probability"] == pytest.approx(expit(-1.0))


def test_nothing_ranked_apart_gives_an_empty_report() -> None:
    assert held_out_report([item(1, ["a", "b"], [("ann", [[0, 1]])])], [[1.0, 0.0]]) == {}


def test_the_ceiling_is_the_accuracy_of_knowing_the_common_answer() -> None:
    rng = np.random.default_rng(0)
    q = 0.8
    items = [
        item(n, ["a", "b"], [(f"p{k}", [[0], [1]] if rng.random() < q else [[1], [0]]) for k in range(2)])
        for n in range(4000)
    ]
    report = held_out_report(items, [[1.0, 0.0]] * len(items))
    assert report["people"]["ceiling"] == pytest.approx(q, abs=0.02)
    assert report["accuracy"]["value"] == pytest.approx(report["people"]["ceiling"], abs=0.02)


def test_accuracy_by_the_sources_compared_has_few_rows() -> None:
    """Ten pairs of sources: the most frequent have a row each, the rest share one, and the unknown have none."""
    items = [
        item(10 * n + k, ["a", "b"], [("ann", [[0], [1]])], "base", f"model {n}")
        for n in range(10)
        for k in range(n + 1)
    ]
    items.append(item(100, ["a", "b"], [("ann", [[0], [1]])], "base", ""))
    items.append(item(101, ["a", "b"], [("ann", [[0], [1]])]))
    right = [[1.0, 0.0] if one.sources[1:] == ("model 9",) else [0.0, 1.0] for one in items]
    rows = [one for one in held_out_report(items, right)["slices"] if one["title"] == "Sources compared"]
    assert [(one["name"], one["pairs"]) for one in rows] == [
        *((f"base · model {n}", n + 1) for n in range(9, 1, -1)),
        ("others", 2 + 1),
    ]
    assert [one["accuracy"]["value"] for one in rows] == [1.0] + [0.0] * 8
    same = held_out_report([item(1, ["a", "b"], [("ann", [[0], [1]])], "base", "base")], [[1.0, 0.0]])
    assert by_name(same, "base")["pairs"] == 1


def test_everybody_of_whom_something_was_learned_is_listed_up_to_a_limit() -> None:
    items = [item(1, ["a", "b"], [("ann", [[0], [1]])])]
    people = held_out_report(items, [[1.0, 0.0]], {"ann": 0.9, "zoe": 0.4})["people"]
    assert [(one["name"], one["pairs"], one["reliability"]) for one in people["labelers"]] == [
        ("ann", 1, 0.9),
        ("zoe", 0, 0.4),
    ]
    assert people["labelers"][1]["accuracy"]["value"] is None and people["labelers_left_out"] == 0
    many = {f"person {n}": 0.9 for n in range(300)}
    people = held_out_report(items, [[1.0, 0.0]], many)["people"]
    assert len(people["labelers"]) == LABELERS and people["labelers_left_out"] == 301 - LABELERS
    assert "ann" in {one["name"] for one in people["labelers"]}, "who answered most comes first"


def test_examples_of_turns_are_the_most_telling_ones_and_cut() -> None:
    def talk(*texts: str) -> tuple[dict[str, str], ...]:
        return tuple({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts))

    long = talk(*(str(n) for n in range(2 * TURNS_SHOWN + 4)))
    items = [
        Item(str(n), (), (long, talk("q", "x" * 5000, "bye")), (Label(((0,), (1,)), "ann"),), str(n)) for n in range(20)
    ]
    found = turn_examples(
        items, [[n - 9.5, 0.0] for n in range(20)], lambda talks: [[1.0] * (len(talk) // 2) for talk in talks]
    )
    assert [one["sort"] for one in found] == ["wrong"] * 2 + ["unsure"] * 2 + ["right"] * 2
    assert found[0]["probability"] == pytest.approx(expit(-9.5)) and found[4]["probability"] > 0.99
    assert all(0.1 < one["probability"] < 0.9 for one in found[2:4])
    chosen, rejected = found[0]["chosen"], found[0]["rejected"]
    assert (chosen["score"], len(chosen["turns"]), chosen["left_out"]) == (TURNS_SHOWN + 2, TURNS_SHOWN, 2)
    assert rejected["turns"][0]["said"] == "q" and len(rejected["turns"][0]["answer"]) < 500
    assert len(rejected["turns"]) == 1, "what follows the last answer is in no turn"
