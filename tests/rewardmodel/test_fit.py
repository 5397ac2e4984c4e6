"""Training: what is there is learned, what is not there is not, and a resumed run is the same run."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.config import FitConfig
from rewardmodel.data import DataError, Encoded, Item, Label, encode_items, group_rows, split_items
from rewardmodel.evaluate import evaluate, length_accuracy, pair_accuracy, score_items
from rewardmodel.fit import Fit, FitError, adapt_l2
from rewardmodel.losses import TieTooLarge
from rewardmodel.model import RewardModel
from rewardmodel.packing import make_tree, split_group
from rewardmodel.reading import Reader

from .worlds import planted_rows

CONFIG = FitConfig(epochs=4, learning_rate=1e-2, head_learning_rate=1e-2)


def make_fit(base: Path, rows: list[dict[str, Any]], config: FitConfig = CONFIG, rank: int = 8, **options: Any) -> Fit:
    model = RewardModel.create(str(base), lora_rank=rank, seed=config.seed, **options)
    train, held_out = split_items(group_rows(rows), 0.4, config.seed)
    encoded = [encode_items(part, model.encode_together) for part in (train, held_out)]
    return Fit(model, encoded[0], encoded[1], config)


def train(fit: Fit) -> dict[str, float]:
    for _ in fit.run():
        pass
    return fit.finish()


@pytest.mark.parametrize(
    ("backbone", "k", "rank", "loss"),
    [
        ("llama", 4, 8, "plackett_luce"),
        ("llama", 4, 8, "pairwise"),
        ("llama", 2, 8, "plackett_luce"),
        ("llama", 4, 0, "plackett_luce"),
        ("bert", 4, 8, "plackett_luce"),
    ],
)
def test_a_planted_preference_is_learned(
    backbone: str, k: int, rank: int, loss: str, request: pytest.FixtureRequest
) -> None:
    config = replace(CONFIG, loss=loss, learning_rate=1e-2 if rank else 3e-3)
    fit = make_fit(request.getfixturevalue(backbone), planted_rows(300, k, seed=0), config, rank)
    before = evaluate(fit.model, fit.held_out).accuracy
    metrics = train(fit)
    assert metrics["eval/accuracy"] > 0.9
    assert metrics["eval/accuracy_low"] > max(before.value or 0, metrics["eval/accuracy_length_only"])
    better, worse = ([{"role": "assistant", "content": text}] for text in ("azbzzc", "abccbd"))
    assert fit.model.score([better])[0] > fit.model.score([worse])[0]


def test_shuffled_labels_teach_nothing(llama: Path) -> None:
    config = replace(CONFIG, epochs=2)
    runs = [train(make_fit(llama, planted_rows(300, 4, s, shuffled=True), replace(config, seed=s))) for s in range(5)]
    assert sum(run["eval/accuracy"] for run in runs) / len(runs) == pytest.approx(0.5, abs=0.05)
    assert all(run["eval/accuracy_low"] < 0.55 for run in runs)


def test_scores_are_normalised_on_the_training_completions(llama: Path) -> None:
    fit = make_fit(llama, planted_rows(60, 3, seed=1))
    train(fit)
    scores = fit.model.score([[*e.item.messages, *c] for e in fit.train for c in e.item.completions])
    assert torch.tensor(scores).mean().item() == pytest.approx(0, abs=1e-5)
    assert torch.tensor(scores).std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_the_best_evaluation_is_kept_and_training_ends_early(llama: Path) -> None:
    config = replace(CONFIG, epochs=40, patience=3, learning_rate=3e-2)
    fit = make_fit(llama, planted_rows(40, 3, seed=3, shuffled=True), config)
    losses = {p.step: p.metrics["eval/loss"] for p in fit.run() if "eval/loss" in p.metrics}
    metrics = fit.finish()
    assert fit.step < fit.total_steps
    assert metrics["eval/loss"] == min(losses.values()) == losses[int(metrics["best_step"])]
    assert [loss > metrics["eval/loss"] for loss in losses.values()][-3:] == [True] * 3
    assert evaluate(fit.model, fit.held_out).loss == pytest.approx(metrics["eval/loss"], abs=1e-5)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint is read: plain values and tensors only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("stop", [1, 8, 13, 29])
def test_a_resumed_fit_is_bit_for_bit_the_undisturbed_one(llama: Path, stop: int) -> None:
    rows = planted_rows(80, 3, seed=2)
    config = replace(CONFIG, batch_size=8, epochs=5)
    whole = make_fit(llama, rows, config, lora_dropout=0.1)
    torch.manual_seed(0)
    history = []
    for progress in whole.run():
        history.append(progress)
        if progress.step == stop:
            saved, random_state = through_a_file(whole.state_dict()), torch.get_rng_state()
    resumed = make_fit(llama, rows, config, lora_dropout=0.1)
    resumed.load_state_dict(saved)
    torch.set_rng_state(random_state)
    assert list(resumed.run()) == history[stop:]
    assert whole.finish() == resumed.finish()
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_fit_that_had_ended_early_stays_ended_when_resumed(llama: Path) -> None:
    config = replace(CONFIG, epochs=40, patience=2, learning_rate=3e-2)
    rows = planted_rows(40, 3, seed=3, shuffled=True)
    fit = make_fit(llama, rows, config)
    list(fit.run())
    resumed = make_fit(llama, rows, config)
    resumed.load_state_dict(through_a_file(fit.state_dict()))
    assert list(resumed.run()) == []
    assert resumed.finish() == fit.finish()


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise"])
def test_micro_batches_change_no_gradient(llama: Path, loss: str) -> None:
    rows = planted_rows(40, 4, seed=4) + planted_rows(40, 4, seed=4, people=2)
    gradients = []
    for size in (1, 3, 40):
        fit = make_fit(llama, rows, replace(CONFIG, micro_batch_size=size, loss=loss, centering=0.5))
        value = fit._backward(fit.train)
        gradients.append({name: p.grad.clone() for name, p in fit._learning.items() if p.grad is not None})
        assert value == pytest.approx(evaluate(fit.model, fit.train, fit.likelihood).loss, abs=1e-5)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], atol=1e-5, rtol=1e-4), name


def test_prompt_and_completions_are_read_once_however_many_people_ranked_them(llama: Path) -> None:
    fit = make_fit(llama, planted_rows(20, 4, seed=0, people=3), replace(CONFIG, epochs=1))
    real = 0

    def count(module: Any, inputs: Any, named: dict[str, torch.Tensor]) -> None:
        nonlocal real
        real += int((named["input_ids"] != fit.model.tokenizer.pad_token_id).sum())

    handle = fit.model.trunk.register_forward_pre_hook(count, with_kwargs=True)
    fit._backward(fit.train)
    handle.remove()
    different = [list(dict.fromkeys(map(tuple, e.sequences))) for e in fit.train]
    trees = [make_tree(part) for group in different for part in split_group(group, 16)]
    assert real == sum(len(tree.ids) for tree in trees)
    assert real < 0.8 * sum(len(s) for e in fit.train for s in e.sequences)


@pytest.mark.parametrize("rank", [0, 8])
def test_packed_training_has_the_loss_and_the_gradients_of_plain_training(
    llama: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = planted_rows(30, 4, seed=4)
    fits = [make_fit(llama, rows, replace(CONFIG, centering=0.5), rank) for _ in range(2)]
    losses = [fits[0]._backward(fits[0].train)]
    monkeypatch.setattr(Reader, "shares_beginnings", lambda reader, longest: False)
    losses.append(fits[1]._backward(fits[1].train))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name, packed in fits[0]._learning.items():
        plain = fits[1]._learning[name].grad
        assert (packed.grad is None) == (plain is None), name
        assert plain is None or torch.allclose(packed.grad, plain, atol=1e-5), name


def test_the_learning_rate_rises_and_falls_to_a_tenth(llama: Path) -> None:
    fit = make_fit(llama, planted_rows(60, 2, seed=0), replace(CONFIG, batch_size=2, epochs=2, warmup=0.25))
    rates = [p.metrics["learning_rate"] for p in fit.run()]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(CONFIG.learning_rate)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 * CONFIG.learning_rate, rel=0.1)
    assert abs(peak / len(rates) - 0.25) < 0.1


def test_centering_keeps_scores_near_zero(llama: Path) -> None:
    drift = []
    for weight in (0.0, 1.0):
        fit = make_fit(llama, planted_rows(100, 3, seed=5), replace(CONFIG, centering=weight))
        with torch.no_grad():
            fit.model.head.bias.fill_(3.0)
        list(fit.run())
        drift.append(abs(torch.cat(score_items(fit.model, fit.train)).mean().item()))
    assert drift[1] < 0.3 < drift[0]


def encoded(lengths: list[int], tiers: tuple[tuple[int, ...], ...], prompt: str = "p", weight: float = 1.0) -> Encoded:
    completions = tuple(({"role": "assistant", "content": "x" * n},) for n in lengths)
    item = Item("x", (), completions, (Label(tiers, "", weight),), prompt)
    return Encoded(item, tuple([0] * n for n in lengths))


def test_accuracy_counts_pairs_leaves_ties_out_and_weighs_prompts_equally() -> None:
    items = [encoded([1] * 3, ((0,), (1, 2)), "a"), encoded([1] * 2, ((1,), (0,)), "b"), encoded([1] * 2, ((0, 1),))]
    scores = [torch.tensor([2.0, 1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])]
    estimate = pair_accuracy(scores, items)
    assert estimate.value == pytest.approx((0.5 + 1.0) / 2)
    assert estimate.count == 2
    assert pair_accuracy([torch.tensor([1.0, 1.0])], [items[1]]).value == 0.5
    assert pair_accuracy(scores[2:], items[2:]).reason == "undefined because nothing was counted"


def test_the_length_baseline_takes_its_direction_from_training() -> None:
    longer, shorter = encoded([5, 9], ((1,), (0,))), encoded([5, 9], ((0,), (1,)))
    assert length_accuracy([longer], [longer]).value == 1
    assert length_accuracy([shorter], [shorter]).value == 1
    assert length_accuracy([shorter], [longer]).value == 0


def test_what_cannot_be_trained_says_why(llama: Path) -> None:
    fit = make_fit(llama, planted_rows(20, 3, seed=0))
    with pytest.raises(DataError, match="rankings to train on"):
        Fit(fit.model, fit.train, [], CONFIG)
    tied = Encoded(Item("x", (), (), (Label((tuple(range(13)), (13,))),), "p"), tuple([1] for _ in range(14)))
    with pytest.raises(TieTooLarge, match="13 items are tied"):
        Fit(fit.model, [tied], fit.held_out, CONFIG)
    Fit(fit.model, [tied], fit.held_out, replace(CONFIG, loss="pairwise"))
    list(fit.run())
    for value in fit.best["weights"].values():
        value.zero_()
    with pytest.raises(FitError, match="same score"):
        fit.finish()
    with pytest.raises(ValueError, match="loss must be"):
        FitConfig(loss="hinge")


def test_the_weight_of_l2_follows_the_gap_between_losses(llama: Path) -> None:
    assert adapt_l2(0.1, held_out=1.0, train=1.0) < 0.1
    assert adapt_l2(0.1, held_out=1.3, train=1.0) == 0.1
    assert adapt_l2(0.1, held_out=1.7, train=1.0) > 0.1
    distances = []
    for l2 in (0.0, 5.0):
        fit = make_fit(
            llama, planted_rows(40, 3, seed=3, shuffled=True), replace(CONFIG, epochs=10, l2=l2, patience=99)
        )
        start = fit._weights()
        weights = [p.metrics["l2"] for p in fit.run() if "l2" in p.metrics]
        assert len(weights) == (20 if l2 else 0)
        assert not l2 or max(weights) > l2  # noise is learned by heart, so the weight rises
        now = fit._weights()
        distances.append(sum(float((now[name] - start[name]).square().sum()) for name in start))
    assert distances[1] < 0.5 * distances[0]
