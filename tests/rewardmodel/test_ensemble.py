"""Several models on one base: each its own, together a score and how far it can be trusted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.config import FitConfig
from rewardmodel.data import DataError, Encoded, Item, encode_items, group_rows, split_items
from rewardmodel.ensemble import ENSEMBLE, Combination, Ensemble, agree_on
from rewardmodel.ensemble_fit import EnsembleFit, area_under_curve, bootstrap
from rewardmodel.model import RewardModel, RewardModelError

from .conftest import save_llama
from .test_fit import CONFIG, through_a_file
from .worlds import planted_rows

Talk = list[dict[str, str]]


def make_fit(base: Path, config: FitConfig = CONFIG, prompts: int = 120, **options: Any) -> EnsembleFit:
    model = RewardModel.create(str(base), lora_rank=4, lora_dropout=0.1, seed=config.seed)
    parts = split_items(group_rows(planted_rows(prompts, 3, seed=0)), 0.3, 0)
    train, held_out = (encode_items(part, model.encode_together) for part in parts)
    return EnsembleFit(model, train, held_out, config, **({"members": 3} | options))


def answer(text: str) -> Talk:
    return [{"role": "user", "content": "q7"}, {"role": "assistant", "content": text}]


def test_a_sample_leaves_prompts_out_and_shares_none_with_them() -> None:
    items = [Encoded(Item(str(i), (), (), (), str(i // 2)), ([1],)) for i in range(400)]
    shares = []
    for seed in range(10):
        drawn, left_out = bootstrap(items, seed)
        assert len(drawn) == len(items)
        assert not {e.item.prompt for e in drawn} & {e.item.prompt for e in left_out}
        assert {e.item.id for e in drawn} | {e.item.id for e in left_out} == {e.item.id for e in items}
        shares.append(len(left_out) / len(items))
    assert sum(shares) / 10 == pytest.approx(1 / 2.718, abs=0.03)
    assert bootstrap(items, 3) == bootstrap(items, 3) != bootstrap(items, 4)
    assert all(bootstrap(items[:4], seed)[1] for seed in range(20))
    with pytest.raises(DataError, match="two prompts"):
        bootstrap(items[:2], 0)


@pytest.mark.parametrize("backbone", ["llama", "bert"])
def test_members_share_a_base_and_nothing_else(backbone: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    first = RewardModel.create(str(request.getfixturevalue(backbone)), lora_rank=2)
    talks = [answer("abc"), answer("zzz")]
    expected = first.score(talks)
    second = first.sibling(1, seed=1)
    assert first.score(talks) == expected != second.score(talks)
    mine, yours = first.learning(), second.learning()
    assert len(mine) == len(yours)
    assert not {id(p) for p in mine.values()} & {id(p) for p in yours.values()}
    assert first.trunk is second.trunk
    before = {name: p.detach().clone() for name, p in first.model.named_parameters()}
    second.raw_scores([second.encode(talk) for talk in talks]).sum().backward()
    with torch.no_grad():
        for parameter in yours.values():
            parameter.sub_(parameter.grad)
    changed = {name for name, p in first.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(".member_1." in name for name in changed)
    assert first.score(talks) == expected


def test_siblings_of_a_tuned_adapter_start_from_it_too(llama: Path, tmp_path: Path) -> None:
    start = RewardModel.create(str(llama), lora_rank=2)
    with torch.no_grad():
        for name, parameter in start.learning().items():
            if "lora_B" in name:
                parameter.fill_(0.3)
    start.save(tmp_path)
    first = RewardModel.create(str(llama), adapter=str(tmp_path))
    second = first.sibling(1, seed=1)
    ids = [first.encode(answer("abc"))]
    states = [
        model.reader.read_alone(ids, lambda hidden: hidden) for model in (first, second, RewardModel.create(str(llama)))
    ]
    assert torch.allclose(states[0], states[1])
    assert not torch.allclose(states[0], states[2], atol=1e-2)


def test_an_ensemble_learns_and_disagrees_about_what_it_has_not_seen(llama: Path, tmp_path: Path) -> None:
    fit = make_fit(llama, prompts=200, members=4)
    base = {name: p.detach().clone() for name, p in fit.fits[0].model.model.named_parameters() if ".lora_" not in name}
    steps = [progress.step for progress in fit.run()]
    metrics = fit.finish()
    assert steps == list(range(1, fit.step + 1)) and fit.step == fit.total_steps
    assert metrics["eval/accuracy"] > 0.9 and metrics["eval/accuracy_member"] > 0.85
    assert all(torch.equal(p, base[name]) for name, p in fit.fits[0].model.model.named_parameters() if name in base)
    ensemble = fit.model
    talks: list[Talk] = [[*map(dict, e.item.messages), *map(dict, c)] for e in fit.train for c in e.item.completions]
    scores = torch.tensor(ensemble.score(talks))
    assert scores.mean().item() == pytest.approx(0, abs=1e-4)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    generator = random.Random(0)
    strange = [answer("".join(generator.choice("QWERTYUIOP!?#") for _ in range(60))) for _ in range(60)]
    known: list[Talk] = [[*map(dict, e.item.messages), *map(dict, c)] for e in fit.held_out for c in e.item.completions]
    assert area_under_curve(ensemble.uncertainty(strange), ensemble.uncertainty(known)) > 0.75
    ensemble.save(tmp_path)
    loaded = Ensemble.load(tmp_path)
    assert loaded.score(talks[:9]) == pytest.approx(ensemble.score(talks[:9]), abs=1e-5)
    assert loaded.uncertainty(talks[:9]) == pytest.approx(ensemble.uncertainty(talks[:9]), abs=1e-5)
    assert RewardModel.load(tmp_path).score(talks[:9]) == pytest.approx(fit.fits[0].model.score(talks[:9]), abs=1e-5)


@pytest.mark.parametrize("stop", [5, 14, 33])
def test_a_resumed_ensemble_is_bit_for_bit_the_undisturbed_one(llama: Path, stop: int) -> None:
    whole = make_fit(llama, replace(CONFIG, batch_size=8, l2=0.01))
    torch.manual_seed(0)
    history = []
    for progress in whole.run():
        history.append(progress)
        if progress.step == stop:
            saved, random_state = through_a_file(whole.state_dict()), torch.get_rng_state()
    resumed = make_fit(llama, replace(CONFIG, batch_size=8, l2=0.01))
    resumed.load_state_dict(saved)
    torch.set_rng_state(random_state)
    assert list(resumed.run()) == history[stop:]
    assert whole.finish() == resumed.finish()


def test_pessimism_takes_off_where_members_differ() -> None:
    judged = agree_on(torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, -1.0]]))
    assert judged.uncertainty.tolist() == [0, 1, 0.5]
    assert Combination(2)(judged).tolist() == [1, 1, -0.5]
    assert Combination(2, pessimism=2.0)(judged).tolist() == [1, -1, -1.5]
    assert Combination(2, pessimism=2.0, mean=1.0, sd=2.0)(judged).tolist() == [0, -1, -1.25]


def test_a_single_cautious_model_lowers_what_is_unlike_all_that_was_compared(llama: Path, tmp_path: Path) -> None:
    fit = make_fit(llama, members=2).fits[0]
    list(fit.run())
    fit.finish()
    bold, cautious = Ensemble([fit.model], Combination()), Ensemble.cautious(fit.model, fit.train, 2.0)
    cautious.save(tmp_path)
    loaded = Ensemble.load(tmp_path)
    known: list[Talk] = [[*map(dict, e.item.messages), *map(dict, c)] for e in fit.train for c in e.item.completions]
    strange = [answer("QWERTY" * n) for n in range(1, 9)]
    assert torch.tensor(cautious.score(known)).mean().item() == pytest.approx(0, abs=1e-4)
    assert torch.tensor(cautious.score(known)).std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert loaded.score(known[:5]) == pytest.approx(cautious.score(known[:5]), abs=1e-4)
    assert min(cautious.uncertainty(strange)) > 0 == max(bold.uncertainty(strange))
    drops = [b - c for b, c in zip(bold.score(strange), cautious.score(strange), strict=True)]
    assert sum(drops) / len(drops) > 0.1  # on average nothing is taken off what was compared


def test_a_pessimistic_ensemble_is_saved_as_one(llama: Path, tmp_path: Path) -> None:
    fit = make_fit(llama, replace(CONFIG, epochs=1), members=2, pessimism=1.5)
    list(fit.run())
    fit.finish()
    fit.model.save(tmp_path)
    talks = [answer("abz"), answer("QQQQQQ")]
    loaded = Ensemble.load(tmp_path)
    assert loaded.combination == fit.model.combination
    assert loaded.score(talks) == pytest.approx(fit.model.score(talks), abs=1e-5)
    (tmp_path / ENSEMBLE).write_text('{"members": 2, "colour": 1}')
    with pytest.raises(RewardModelError, match=r"ensemble\.json cannot be read"):
        Ensemble.load(tmp_path)


def test_a_single_model_is_an_ensemble_of_one(llama: Path, tmp_path: Path) -> None:
    model = RewardModel.create(str(llama))
    model.save(tmp_path)
    talks = [answer("abc"), answer("zz")]
    assert Ensemble.load(tmp_path).score(talks) == pytest.approx(model.score(talks), abs=1e-6)
    assert Ensemble.load(tmp_path).uncertainty(talks) == [0, 0]
    assert Ensemble.load(tmp_path).score([]) == []


def test_members_need_adapters(llama: Path) -> None:
    with pytest.raises(RewardModelError, match="lora_rank above 0"):
        RewardModel.create(str(llama), lora_rank=0).sibling(1, seed=0)


def test_the_area_under_the_curve_is_the_share_of_right_orders() -> None:
    assert area_under_curve([3, 4], [1, 2]) == 1
    assert area_under_curve([1, 2], [3, 4]) == 0
    assert area_under_curve([1, 2], [1, 2]) == 0.5
    assert area_under_curve([2, 5], [1, 3, 4]) == pytest.approx(4 / 6)


def test_members_disagree_about_garbled_answers_only_where_order_means_something(tmp_path: Path) -> None:
    """Letters of real answers stand in order. The control: where they never do, garbling changes nothing."""

    def area(in_order: bool) -> float:
        generator = random.Random(0)
        rows = []
        for row in planted_rows(120, 2, seed=0):
            texts = ["".join(generator.choices("abcdefz", k=24)) for _ in range(2)]
            texts = ["".join(sorted(text)) for text in texts] if in_order else texts
            better = int(texts[1].count("z") > texts[0].count("z"))
            completions = [[{"role": "assistant", "content": text}] for text in texts]
            rows.append(row | {"completions": completions, "tiers": [[better], [1 - better]]})
        model = RewardModel.create(str(base), lora_rank=8)
        parts = split_items(group_rows(rows), 0.3, 0)
        train, held_out = (encode_items(part, model.encode_together) for part in parts)
        fit = EnsembleFit(model, train, held_out, CONFIG, members=3)
        list(fit.run())
        return fit.finish()["eval/disagreement_auc"]

    base = save_llama(tmp_path, layers=2, hidden=32)
    assert area(in_order=True) > 0.65
    assert area(in_order=False) == pytest.approx(0.5, abs=0.1)
