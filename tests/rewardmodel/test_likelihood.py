"""What is learned beside the scores: which differences people notice, and whom to believe."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from rewardmodel.config import FitConfig
from rewardmodel.data import DataError, Encoded, Item, Label, encode_items, group_rows, split_items
from rewardmodel.fit import Fit
from rewardmodel.likelihood import Likelihood
from rewardmodel.model import RewardModel
from rewardmodel.stats.annotators import MEANT, REVERSED

from .conftest import save_llama
from .test_fit import CONFIG, make_fit, through_a_file, train
from .worlds import planted_rows

HONEST, RANDOM, ADVERSARY = ("anna", "ben", "cleo", "dora"), ("spam 1", "spam 2"), "eve"


def crowd_rows(prompts: int, seed: int) -> list[dict[str, Any]]:
    """Pairs that three of seven people ranked: four honest, two who guess, one who means the opposite."""
    generator = random.Random(seed)
    rows = []
    for row in planted_rows(prompts, 2, seed):
        if len(row["tiers"]) < 2:
            continue
        for person in generator.sample([*HONEST, *RANDOM, ADVERSARY], 3):
            guesses = person in RANDOM and generator.random() < 0.5
            tiers = row["tiers"][::-1] if guesses or person == ADVERSARY else row["tiers"]
            rows.append(row | {"tiers": tiers, "labeler": person})
    return rows


def item(tiers: tuple[tuple[int, ...], ...], labeler: str = "", weight: float = 1.0) -> Encoded:
    return Encoded(Item("x", (), (), (Label(tiers, labeler, weight),), "p"), ([1], [2]))


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise"])
def test_how_much_better_people_found_it_is_the_margin(loss: str) -> None:
    scores = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    labels = [Label(((0,), (1,)), strength=1.0), Label(((0,), (1,)))]
    items = [Encoded(Item("x", (), (), (label,), "p"), ([1], [2])) for label in labels]
    surprise = [float(torch.nn.functional.softplus(torch.tensor(-gap))) for gap in (0.5 - 3, 0.5)]
    found = [Likelihood(FitConfig(loss=loss, margin=margin)).loss(scores, items).mean.item() for margin in (3.0, 0.0)]
    assert found == pytest.approx([sum(surprise) / 2, surprise[1]], abs=1e-6)


def test_unreliable_people_are_found_out_and_not_believed(llama: Path) -> None:
    rows = crowd_rows(250, seed=0)
    believed, doubted = (make_fit(llama, rows, replace(CONFIG, reliability=on)) for on in (False, True))
    train(believed)
    train(doubted)
    found = doubted.likelihood.reliability
    assert min(found[person] for person in HONEST) > 0.85
    assert max(found[person] for person in RANDOM) < 0.75
    assert found[ADVERSARY] < 0.3
    honest = [row for row in crowd_rows(250, seed=0) if row["labeler"] in HONEST]
    _, held_out = split_items(group_rows(honest), 0.4, 0)
    losses = []
    for fit in (believed, doubted):
        encoded = encode_items(held_out, fit.model.encode_together)
        scores = torch.stack(fit.model.group_scores([e.sequences for e in encoded]))
        losses.append(Likelihood().loss(scores, encoded).mean.item())
    assert losses[1] < losses[0] - 0.1


def test_random_answers_do_not_become_reliable_by_being_remembered(tmp_path: Path) -> None:
    """A model that learns labels by heart ends up believing them; what it says of people is from before."""
    base = save_llama(tmp_path, layers=2, hidden=64)
    generator = random.Random(0)
    rows = [row for row in planted_rows(150, 2, seed=0) if len(row["tiers"]) == 2]
    for row in rows:
        tiers = row["tiers"][:: generator.choice((1, -1))]
        row |= {"tiers": tiers, "labeler": generator.choice(HONEST)}
    config = replace(CONFIG, learning_rate=5e-3, epochs=8, patience=100, reliability=True)
    fit = make_fit(base, rows, config, rank=32)
    list(fit.run())
    remembered = fit.reliability
    fit.finish()
    prior = MEANT / (MEANT + REVERSED)
    assert fmean(remembered.values()) > prior > fmean(fit.reliability.values())


def test_a_person_no_better_than_chance_teaches_nothing() -> None:
    likelihood = Likelihood(FitConfig(reliability=True))
    for reliability, share in ((1.0, 1.0), (0.75, 0.5), (0.5, 0.0), (0.1, 0.0)):
        likelihood.load_facts({"reliability": {"x": reliability}, "noted": {}, "before": {}})
        scores = torch.zeros(1, 2, requires_grad=True)
        likelihood.loss(scores, [item(((0,), (1,)), "x")]).mean.backward()
        assert scores.grad[0, 1].item() == pytest.approx(share / 2)


def test_ties_teach_the_threshold_and_alltied_rankings_count(llama: Path) -> None:
    rows = planted_rows(200, 2, seed=0)
    tied = sum(len(row["tiers"]) == 1 for row in rows)
    assert len(group_rows(rows, ties=True)) == len(group_rows(rows)) + tied == 200
    for loss in ("rao_kupper", "davidson"):
        model = RewardModel.create(str(llama))
        parts = split_items(group_rows(rows, ties=True), 0.3, 0)
        train_part, held_out = (encode_items(part, model.encode_together) for part in parts)
        fit = Fit(model, train_part, held_out, replace(CONFIG, loss=loss, head_learning_rate=0.05))
        metrics = train(fit)
        assert metrics["eval/accuracy"] > 0.9
        assert metrics["tie_threshold"] > 0.9  # softplus(0) = 0.69 at the start; these people never tie by chance


def test_nobody_ever_tying_lowers_the_threshold(llama: Path) -> None:
    rows = [row for row in planted_rows(200, 2, seed=0) if len(row["tiers"]) == 2]
    fit = make_fit(llama, rows, replace(CONFIG, loss="rao_kupper", head_learning_rate=0.05))
    assert train(fit)["tie_threshold"] < 0.5


@pytest.mark.parametrize("options", [{"reliability": True}, {"loss": "davidson"}, {"noise": 0.1, "top": 1}])
def test_what_is_learned_besides_survives_a_checkpoint(llama: Path, options: dict[str, Any]) -> None:
    config = replace(CONFIG, batch_size=8, **options)
    rows = crowd_rows(60, seed=1)
    whole = make_fit(llama, rows, config)
    history = []
    for progress in whole.run():
        history.append(progress)
        if progress.step == 7:
            saved = through_a_file(whole.state_dict())
    resumed = make_fit(llama, rows, config)
    resumed.load_state_dict(saved)
    assert list(resumed.run()) == history[7:]
    assert whole.finish() == resumed.finish()
    assert whole.likelihood.facts() == resumed.likelihood.facts()


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise", "rao_kupper", "davidson"])
def test_random_answers_are_expected_in_every_loss(loss: str) -> None:
    """However wrong the scores, a share of random answers bounds the surprise."""
    scores = torch.tensor([[-50.0, 50.0]])
    surprise = [Likelihood(FitConfig(loss=loss, noise=n)).loss(scores, [item(((0,), (1,)))]).mean for n in (0, 0.1)]
    assert surprise[0].item() > 90 and surprise[1].item() < 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loss": "hinge"}, "loss must be one of"),
        ({"loss": "davidson", "label_smoothing": 0.1}, "no meaning"),
        ({"loss": "pairwise", "top": 1}, "top is a setting of plackett_luce"),
        ({"loss": "davidson", "margin": 1.0}, "they learn a threshold"),
        ({"margin": -1.0}, "margin is at least 0"),
        ({"noise": 1.0}, "shares below 1"),
        ({"top": -1}, "at least 0"),
    ],
)
def test_settings_that_do_not_go_together_say_why(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FitConfig(**options)


def test_nothing_but_ties_is_said_to_be_no_preference(llama: Path) -> None:
    rows = [row | {"tiers": [[0, 1]]} for row in planted_rows(9, 2, seed=0)]
    with pytest.raises(DataError, match="0 prompt"):
        split_items(group_rows(rows), 0.5, 0)
    assert len(group_rows(rows, ties=True)) == 9
