"""Runs with adapters of the LoRA family, through the real entry point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.dylora import Truncation
from tests.engine.test_sft import rows as sft_rows
from tests.engine.tiny import events_of, make_run, prompt_rows, save_base, save_reward, without_clock
from training.engine import merge
from training.engine.__main__ import main
from training.engine.rundir import FAILED, STOPPED, SUCCEEDED, RunDir

VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {},
    "vera": {"lora_rank": 32},
    "lora_fa": {},
    "adalora": {"lora_target_rank": 2},
    "dylora": {"lora_smallest_rank": 2},
}


SHORT = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_base(tmp_path_factory.mktemp("models") / "base"))


def settings_of(variant: str, base: str) -> dict[str, Any]:
    lora = {"lora_variant": variant, "lora_rank": 4, "lora_dropout": 0.1} | VARIANTS[variant]
    return {"base": base, "device": "cpu", "learning_rate": 1e-2} | lora


def artifact_of(rundir: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(rundir.artifact.iterdir())}


def rankings() -> list[dict[str, Any]]:
    """To six words, "good" is better than "bad"."""
    return [
        {"item": f"i{i}", "messages": [{"role": "user", "content": word}], "labeler": "a", "weight": 1.0,
         "completions": [[{"role": "assistant", "content": text}] for text in ("good", "bad")], "tiers": [[0], [1]]}
        for i, word in enumerate(["red", "green", "blue", "one", "two", "three"] * 2)
    ]  # fmt: skip


def run_in_pieces(rundir: RunDir) -> int:
    """Stop after every step and go on in a new process's state; returns how many pieces it took."""
    rundir.control.write_text(json.dumps({"stop": True}))
    for piece in range(1, 100):
        torch.manual_seed(piece)  # whatever was drawn before must not matter
        code = main([str(rundir.path)])
        if code != STOPPED:
            assert code == SUCCEEDED, rundir.read_status()
            return piece
    raise AssertionError("it never ended")


@pytest.mark.parametrize("variant", ["lora_fa", "vera", "adalora", "dylora"])
def test_a_run_stopped_after_every_step_makes_the_same_bytes(variant: str, base: str, tmp_path: Path) -> None:
    settings = settings_of(variant, base) | {"epochs": 5, "batch_size": 12, "eval_fraction": 0.2}
    whole, pieces = (make_run(tmp_path / name, "sft", settings, sft=sft_rows(24)) for name in "ab")
    assert main([str(whole.path)]) == SUCCEEDED
    assert run_in_pieces(pieces) >= 8
    assert artifact_of(pieces) == artifact_of(whole)
    metrics = [[e["metrics"] for e in without_clock(events_of(run, "metrics"))] for run in (whole, pieces)]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("variant", ["dora", "vera", "adalora", "dylora"])
def test_ppo_tunes_a_policy_of_any_variant_and_resumes(variant: str, base: str, tmp_path: Path) -> None:
    reward = save_reward(tmp_path / "reward", Path(base))
    settings = settings_of(variant, base) | {
        "reward_path": str(reward),
        "iterations": 4,
        "batch_size": 8,
        "max_new_tokens": 6,
        "lora_dropout": 0.0,
        "value_warmup": 1,
        "sample_every": 4,
        "ppo_epochs": 1,  # so that every ratio is that of the first pass
    }
    whole, pieces = (make_run(tmp_path / name, "ppo", settings, prompts=prompt_rows(8)) for name in "ab")
    assert main([str(whole.path)]) == SUCCEEDED, whole.read_status()
    assert run_in_pieces(pieces) == 4
    assert artifact_of(pieces) == artifact_of(whole)
    metrics = [event["metrics"] for event in events_of(whole, "metrics")]
    assert metrics[1]["val/ratio"] == pytest.approx(1.0, abs=1e-4)
    assert metrics[-1]["objective/kl"] != 0


@pytest.mark.parametrize("kind", ["sft", "ppo", "reward"])
def test_every_kind_of_run_trains_dylora_with_ranks_that_vary(
    kind: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in PPO, a rank lasts from the first sampled token to the last optimizer step."""
    log: list[tuple[str, int | None]] = []
    compute = Truncation.factors

    def noted(truncation: Truncation, layer: Any, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        log.append(("learn" if torch.is_grad_enabled() else "look", truncation.rank))
        return compute(truncation, layer, adapter)

    monkeypatch.setattr(Truncation, "factors", noted)
    settings = settings_of("dylora", base) | {"lora_smallest_rank": 1, "lora_dropout": 0.0, "batch_size": 4}
    if kind == "ppo":
        settings |= {"reward_path": str(save_reward(tmp_path / "reward", Path(base))), "max_new_tokens": 6}
        settings |= {"iterations": 8, "value_warmup": 0, "sample_every": 100}
    else:
        settings |= {"epochs": 4, "eval_fraction": 0.2}
    files = {"sft": {"sft": sft_rows(8)}, "ppo": {"prompts": prompt_rows(8)}, "reward": {"rankings": rankings()}}
    run = make_run(tmp_path / "run", kind, settings, **files[kind])
    assert main([str(run.path)]) == SUCCEEDED, run.read_status()
    learned = [rank for what, rank in log if what == "learn"]
    assert None not in learned and len(set(learned)) >= 3
    looked = {rank for what, rank in log if what == "look"}
    assert None in looked  # evaluations and samples are of the whole
    if kind == "ppo":
        assert set(learned) <= looked


def test_ppo_tunes_all_weights_of_a_policy_and_resumes(base: str, tmp_path: Path) -> None:
    settings = {"base": base, "lora_rank": 0, "reward_path": str(save_reward(tmp_path / "reward", Path(base)))}
    settings |= {"iterations": 3, "batch_size": 8, "max_new_tokens": 6, "value_warmup": 1, "learning_rate": 1e-3}
    whole, pieces = (make_run(tmp_path / name, "ppo", settings, prompts=prompt_rows(8)) for name in "ab")
    assert main([str(whole.path)]) == SUCCEEDED, whole.read_status()
    assert run_in_pieces(pieces) == 3
    assert artifact_of(pieces) == artifact_of(whole)
    metrics = [event["metrics"] for event in events_of(whole, "metrics")]
    assert metrics[0]["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert metrics[-1]["objective/kl"] != pytest.approx(0, abs=1e-5)
    card = json.loads((whole.artifact / "card.json").read_text())
    assert card["format"] == "model" and "size" not in card
    again = make_run(tmp_path / "again", "sampling", {"base": str(whole.artifact)} | SHORT, prompts=prompt_rows(4))
    assert main([str(again.path)]) == SUCCEEDED, again.read_status()


def test_a_run_goes_on_from_a_policy_and_a_reward_model_of_other_variants(base: str, tmp_path: Path) -> None:
    """SFT with VeRA, a reward model that starts from it, PPO from both; then DoRA is asked for and refused."""
    sft = make_run(tmp_path / "sft", "sft", settings_of("vera", base) | {"epochs": 3}, sft=sft_rows(24))
    assert main([str(sft.path)]) == SUCCEEDED
    start = {"adapter": str(sft.artifact)}
    reward = make_run(tmp_path / "reward", "reward", settings_of("vera", base) | start, rankings=rankings())
    assert main([str(reward.path)]) == SUCCEEDED, reward.read_status()
    settings = {"base": base, "device": "cpu", "reward_path": str(reward.artifact), "iterations": 3} | start
    settings |= {"batch_size": 8, "max_new_tokens": 6}
    ppo = make_run(tmp_path / "ppo", "ppo", settings | {"lora_variant": "vera"}, prompts=prompt_rows(8))
    assert main([str(ppo.path)]) == SUCCEEDED, ppo.read_status()
    assert events_of(ppo, "metrics")[0]["metrics"]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert json.loads((ppo.artifact / "adapter_config.json").read_text())["peft_type"] == "VERA"
    other = make_run(tmp_path / "other", "ppo", settings | {"lora_variant": "dora"}, prompts=prompt_rows(8))
    assert main([str(other.path)]) == FAILED
    assert "cannot go on as dora" in other.read_status()["error"]


def test_the_rank_of_a_dylora_policy_is_chosen_after_training(base: str, tmp_path: Path) -> None:
    settings = settings_of("dylora", base) | {"epochs": 20, "batch_size": 12, "lora_rank": 8, "eval_fraction": 0.2}
    run = make_run(tmp_path / "run", "sft", settings, sft=sft_rows(24))
    assert main([str(run.path)]) == SUCCEEDED
    final = json.loads((run.artifact / "card.json").read_text())["metrics"]
    assert {"eval/loss_rank_2", "eval/loss_rank_4", "eval/loss_rank_8"} <= set(final)
    assert final["eval/loss_rank_8"] == pytest.approx(final["eval/loss"], rel=1e-4)
    assert final["eval/loss_rank_2"] < 2.5

    def sampled(rank: int, expect: int = SUCCEEDED) -> RunDir:
        settings = {"base": base, "adapter": str(run.artifact), "adapter_rank": rank, "completions": 2} | SHORT
        made = make_run(tmp_path / f"rank {rank}", "sampling", settings, prompts=prompt_rows(8))
        assert main([str(made.path)]) == expect, made.read_status()
        return made

    answers = {rank: (sampled(rank).artifact / "completions.jsonl").read_bytes() for rank in (0, 2, 8)}
    assert answers[0] == answers[8] != answers[2]
    assert "2 to 8" in sampled(1, FAILED).read_status()["error"]
    merge.main([str(run.artifact), str(tmp_path / "plain"), "--rank", "2"])
    with pytest.raises(SystemExit, match="2 to 8"):
        merge.main([str(run.artifact), str(tmp_path / "other"), "--rank", "9"])
    bare = make_run(tmp_path / "bare", "sampling", {"base": str(tmp_path / "plain"), "completions": 2} | SHORT,
                    prompts=prompt_rows(8))  # fmt: skip
    assert main([str(bare.path)]) == SUCCEEDED
    assert (bare.artifact / "completions.jsonl").read_bytes() == answers[2]


def test_only_dylora_can_be_cut(base: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "sft", settings_of("lora_fa", base), sft=sft_rows(24))
    assert main([str(run.path)]) == SUCCEEDED
    with pytest.raises(SystemExit, match="was not trained as DyLoRA"):
        merge.main([str(run.artifact), str(tmp_path / "plain"), "--rank", "2"])
    with pytest.raises(SystemExit, match="is there already"):
        merge.main([str(run.artifact), str(run.artifact)])
    with pytest.raises(SystemExit, match="cannot be loaded"):
        merge.main([str(run.artifact), str(tmp_path / "plain"), "--base", str(tmp_path / "nowhere")])
    in_the_way = tmp_path / ".plain.tmp" / "config.json"
    in_the_way.mkdir(parents=True)
    with pytest.raises(SystemExit, match="cannot be written"):
        merge.main([str(run.artifact), str(tmp_path / "plain")])
    assert not in_the_way.parent.exists()
    assert not (tmp_path / "plain").exists()
