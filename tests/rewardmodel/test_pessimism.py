"""Uncertainty of a reward model: that of a linear reward on its hidden states."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from rewardmodel.data import Encoded, Label, encode_items, group_rows
from rewardmodel.model import RewardHead, RewardModel, RewardModelError
from rewardmodel.pessimism import UNCERTAINTY, PessimisticHead, UncertainScores, ranking_differences
from rewardmodel.stats import pessimism

from .worlds import planted_rows

FIRST_WINS = [Label(((0,), (1,)))]


def head_of(weights: torch.Tensor, reference: torch.Tensor, sd: float = 2.0) -> RewardHead:
    """A head that gives `reference` the score 0."""
    head = RewardHead(len(weights)).requires_grad_(False)
    head.weight.copy_(weights)
    head.mean.copy_(weights @ reference)
    head.sd.fill_(sd)
    return head


def small_model(base: Path) -> RewardModel:
    model = RewardModel.create(str(base), seed=1)
    with torch.no_grad():
        model.head.sd.fill_(2.0)
    return model


def planted(model: RewardModel, prompts: int, *, alphabet: str = "") -> list[Encoded]:
    """Items of the planted world, or the same ones in other letters."""
    rows = planted_rows(prompts, 3, seed=0, people=2)
    for row in rows if alphabet else []:
        for (answer,) in row["completions"]:
            answer["content"] = answer["content"].translate(str.maketrans("abcdefz", alphabet))
    return encode_items(group_rows(rows), model.encode_together)


def test_on_hidden_states_it_is_the_linear_reward() -> None:
    random = np.random.default_rng(0)
    features, new = (random.normal(size=(rows, 6)).astype(np.float32) for rows in (40, 20))
    pairs = random.integers(40, size=(300, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    linear = pessimism.fit(features, pairs)
    states = torch.from_numpy(features)
    head = head_of(torch.from_numpy(linear.weights), torch.from_numpy(linear.reference))
    made = PessimisticHead.fit(head, ((states[pair], FIRST_WINS) for pair in pairs))
    scores = made.score(torch.from_numpy(new))
    reward, uncertainty = linear.score(new)
    assert 2 * scores.reward.numpy() == pytest.approx(reward, abs=1e-6)
    assert 2 * scores.uncertainty.numpy() == pytest.approx(uncertainty, abs=1e-6)
    assert 2 * scores.lower(3.0).numpy() == pytest.approx(linear.lower(new, 3.0), abs=2e-6)
    elsewhere = PessimisticHead.fit(head, [(states[:2], FIRST_WINS)], reference=states[7])
    assert elsewhere.score(states[7:8]).uncertainty.item() == 0


def test_rankings_by_several_people_add_up() -> None:
    states = [torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    labels = [Label(((2,), (0, 1), (3,)), weight=0.5), Label(((1,), (2,)), weight=2.0)]
    precision = 0.1 * torch.eye(3, dtype=torch.float64)
    for own in states:
        wide = own.double()
        for a, b in combinations(range(4), 2):
            precision += 0.5 / 6 * torch.outer(wide[a] - wide[b], wide[a] - wide[b])
        precision += 2.0 * torch.outer(wide[1] - wide[2], wide[1] - wide[2])
    made = PessimisticHead.fit(RewardHead(3), ((own, labels) for own in states))
    assert torch.allclose(made.root.T @ made.root @ precision, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(made.reference, torch.cat(states).double().mean(0))


def test_a_ranking_counts_once_whatever_its_length() -> None:
    for tiers in (((0,), (1,)), ((4,), (0, 1), (2,), (3,))):
        rows = ranking_differences(torch.eye(5), tiers, weight=3.0)
        assert (rows**2).sum() == pytest.approx(3.0 * 2)  # each difference of unit vectors has length sqrt(2)


@pytest.mark.parametrize("backbone", ["llama", "bert"])
def test_it_is_read_from_the_items_a_model_was_trained_on(backbone: str, request: pytest.FixtureRequest) -> None:
    model = small_model(request.getfixturevalue(backbone))
    items = planted(model, 300)
    made = PessimisticHead.of(model, items)
    plain, careful = (
        model.group_scores([e.sequences for e in items[:3]], of)
        for of in (model.head, lambda hidden: made.score(hidden).lower(0.5))
    )
    with torch.no_grad():
        states = [torch.cat([model.reader.read_alone([s], lambda h: h) for s in e.sequences]) for e in items]
    other = PessimisticHead.fit(model.head, ((own, e.item.labels) for own, e in zip(states, items, strict=True)))
    for own, reward, lower in zip(states[:3], plain, careful, strict=True):
        assert torch.allclose(reward - 0.5 * other.score(own).uncertainty, lower, atol=1e-4)


def test_answers_unlike_those_that_were_compared_are_uncertain(llama: Path) -> None:
    model = small_model(llama)
    known = planted(model, 200)
    made = PessimisticHead.of(model, known[:100])
    strange = planted(model, 200, alphabet="QWRTY!?")

    def uncertainty(items: list[Encoded]) -> torch.Tensor:
        sequences = [s for e in items for s in e.sequences]
        return model.reader.read_alone(sequences, lambda hidden: made.score(hidden).uncertainty)

    with torch.no_grad():
        alike, unlike = uncertainty(known[100:]), uncertainty(strange[100:])
    assert (unlike[:, None] > alike[None]).float().mean() > 0.75  # area under the curve


def test_it_is_saved_beside_the_head(llama: Path, tmp_path: Path) -> None:
    model = small_model(llama)
    made = PessimisticHead.of(model, planted(model, 10))
    with pytest.raises(RewardModelError, match="holds no reward model"):
        PessimisticHead.load(tmp_path)
    model.save(tmp_path)
    with pytest.raises(RewardModelError, match="knows no uncertainty"):
        PessimisticHead.load(tmp_path)
    made.save(tmp_path)
    states = torch.randn(5, 16)
    for read, kept in zip(PessimisticHead.load(tmp_path).score(states), made.score(states), strict=True):
        assert torch.equal(read, kept)
    PessimisticHead.fit(RewardHead(3), [(torch.eye(3), FIRST_WINS)]).save(tmp_path)
    with pytest.raises(RewardModelError, match="another head"):
        PessimisticHead.load(tmp_path)
    (tmp_path / UNCERTAINTY).write_bytes(b"torn")
    with pytest.raises(RewardModelError, match="knows no uncertainty"):
        PessimisticHead.load(tmp_path)


def test_what_makes_no_sense_is_refused() -> None:
    for kappa in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not negative"):
            UncertainScores(torch.zeros(1), torch.ones(1)).lower(kappa)
    with pytest.raises(ValueError, match="above 0"):
        PessimisticHead.fit(RewardHead(2), [(torch.eye(2), FIRST_WINS)], penalty=0.0)
    with pytest.raises(ValueError, match="no items"):
        PessimisticHead.fit(RewardHead(2), [])
