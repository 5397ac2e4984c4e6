"""The choices a PPO run offers: several answers per prompt, value heads, shaped scores, PPO-ptx, early ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from tests.engine.small_ppo import (
    Paid,
    gradients_of,
    prompts_for,
    rollout,
    save_places,
    settings_in,
    train,
    trainer_in,
)
from tests.engine.tiny import END, VOCABULARY, events_of, make_run, open_session, prompt_rows, randomize, save_reward
from training.engine import ppo
from training.engine.config import ConfigError, parse_config
from training.engine.data import generator_for
from training.engine.episodes import Episodes
from training.engine.rollout import Completion
from training.engine.scores import ScoreShaping
from training.engine.session import EngineError, StopRequested
from training.engine.sft import encode_example, mean_loss

GROUPS = {"completions": 4, "advantage": "rloo"}
LEARNING: dict[str, Any] = {
    "batch_size": 64,
    "micro_batch_size": 64,
    "learning_rate": 1e-2,
    "linear_decay": False,
    "kl_coef": 0.02,
}
GOOD = VOCABULARY["good"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_places(tmp_path_factory.mktemp("models"))


@pytest.fixture
def make_trainer(places: Path, tmp_path: Path) -> Any:
    return lambda **changes: trainer_in(places, tmp_path / "run", **changes)


def demonstrations(count: int) -> list[dict[str, Any]]:
    """Whoever asks hears the sun and the moon."""
    answer = {"role": "assistant", "content": "the sun and the moon"}
    return [{"messages": [*row["messages"], answer]} for row in prompt_rows(count)]


def test_reading_a_prompt_once_changes_nothing(make_trainer: Any) -> None:
    """Four answers to each prompt in common rows, against a row for each of them."""
    trainer = make_trainer(**GROUPS)
    trainer.share_prompts(32)
    randomize(trainer.roles, "policy", 3, scale=0.1)
    prompts = [[5 + (i + k) % 18 for k in range(20)] for i in range(4) for _ in range(4)]
    together = trainer.sample(prompts, generator_for(0, "rollout", 1))
    apart = Episodes(prompts, together.completions, torch.device("cpu"))
    assert any(micro.layout for micro in together.micro_batches(16))
    assert sum(m.ids.numel() for m in together.micro_batches(16)) < 0.6 * sum(
        m.ids.numel() for m in apart.micro_batches(16)
    )
    experience, plain = trainer.assess(together), trainer.assess(apart)
    for field, value in vars(plain).items():
        torch.testing.assert_close(getattr(experience, field), value, atol=1e-5, rtol=1e-5, msg=field)
    randomize(trainer.roles, "policy", 4, scale=0.1)
    rows = torch.tensor([0, 1, 3, 4, 6, 9, 10, 11, 15])
    for one, other in zip(
        gradients_of(trainer, together, experience, rows), gradients_of(trainer, apart, plain, rows), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("advantage", ["rloo", "grpo", "best"])
def test_answers_compared_with_each_other_teach(make_trainer: Any, advantage: str) -> None:
    trainer = make_trainer(**LEARNING, completions=8, advantage=advantage)
    assert trainer.value_head is None
    assert "value" not in trainer.optimizers
    trainer.reward = Paid(lambda ids: sum(token == GOOD for token in ids))
    history = train(trainer, 15)
    assert history[-1]["objective/scores"] > history[0]["objective/scores"] + 0.8
    assert "loss/value" not in history[0]


def test_a_value_head_on_the_policy_learns_and_its_warm_up_leaves_the_policy(make_trainer: Any) -> None:
    trainer = make_trainer(**LEARNING, value="head", value_learning_rate=1e-1, value_warmup=8, missing_end="ignore")
    trainer.reward = Paid(lambda ids: 1.0)
    assert not trainer.assess(rollout(trainer)).values.any()  # it starts by saying 0
    start = trainer.roles.state("policy")
    warm = train(trainer, 8)
    assert all(torch.equal(tensor, start[name]) for name, tensor in trainer.roles.state("policy").items())
    assert warm[-1]["loss/value"] < 0.2 * warm[0]["loss/value"]
    trainer.reward = Paid(lambda ids: sum(token == GOOD for token in ids))
    history = train(trainer, 15, first=9)
    assert history[-1]["objective/scores"] > history[0]["objective/scores"] + 0.8


@pytest.mark.parametrize("value", ["adapter", "head"])
def test_a_model_that_caps_its_logits_learns_as_others_do(places: Path, tmp_path: Path, value: str) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "sliding_window": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 2.0}
    config = Gemma2Config(vocab_size=len(VOCABULARY), **sizes, **heads, initializer_range=0.15, eos_token_id=END)
    shutil.copytree(places / "base", tmp_path / "base")  # for its tokenizer
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "base")
    save_reward(tmp_path / "reward", tmp_path / "base")
    trainer = trainer_in(tmp_path, tmp_path / "run", **LEARNING, value=value, value_warmup=1, missing_end="ignore")
    assert not trainer.roles.head_is_plain
    assert trainer.self_check(prompts_for(trainer), 0) < 1e-5
    trainer.reward = Paid(lambda ids: sum(token == GOOD for token in ids))
    history = train(trainer, 15)
    assert history[0]["val/ratio"] == 1.0
    assert history[-1]["objective/scores"] > history[0]["objective/scores"] + 0.8


def episodes_of(lengths: list[int], finished: list[bool]) -> Episodes:
    completions = [Completion([5] * n, done, [0.0] * n) for n, done in zip(lengths, finished, strict=True)]
    return Episodes([[1]] * len(lengths), completions, torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [5.0, -2.0, -1.0]),
        ({"missing_end": "add"}, [5.0, -2.0, 0.5]),
        ({"missing_end": "ignore"}, [5.0, -2.0, 1.5]),
        ({"missing_end": "ignore", "length_penalty": 0.1}, [4.8, -2.3, 1.1]),
        ({"missing_end": "ignore", "score_clip": 2.0}, [2.0, -2.0, 1.5]),
    ],
)
def test_scores_are_shaped_as_asked(settings: dict[str, Any], expected: list[float]) -> None:
    shaping = ScoreShaping(parse_config("ppo", settings))  # type: ignore[arg-type]
    shaped = shaping(torch.tensor([9.0, -2.0, 1.5]), episodes_of([2, 3, 4], [True, True, False]))
    assert shaped.tolist() == pytest.approx(expected)


def test_normalised_scores_have_mean_0_and_deviation_1_over_all_so_far() -> None:
    shaping = ScoreShaping(parse_config("ppo", {"normalize_scores": True}))  # type: ignore[arg-type]
    scores = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * 7 + 3
    for number, batch in enumerate(scores, start=1):
        seen = scores[:number].flatten()
        expected = (batch - seen.mean()) / seen.std(correction=0)
        torch.testing.assert_close(shaping(batch, episodes_of([1] * 8, [True] * 8)), expected, atol=1e-5, rtol=1e-5)


def test_a_bonus_keeps_the_entropy_up(make_trainer: Any) -> None:
    entropy = {}
    for coefficient in (0.0, 0.3):
        trainer = make_trainer(**LEARNING, entropy_coef=coefficient)
        trainer.reward = Paid(lambda ids: sum(token == GOOD for token in ids))
        entropy[coefficient] = train(trainer, 12)[-1]["policy/entropy"]
    assert entropy[0.3] > entropy[0.0] + 0.2


def test_demonstrations_mixed_in_keep_what_the_policy_knew(places: Path, tmp_path: Path) -> None:
    """PPO pays for other words; without the mix the loss on the demonstrations rises at least twice as much."""
    shown = {VOCABULARY[word] for word in ("the", "sun", "and", "moon")}
    rises = {}
    for coefficient in (0.0, 2.0):
        path = tmp_path / str(coefficient)
        rows = demonstrations(16)
        trainer = trainer_in(places, path, {"sft": rows}, **LEARNING, ptx_coef=coefficient)
        trainer.reward = Paid(lambda ids: -sum(token in shown for token in ids))
        examples = [encode_example(trainer.roles, row["messages"], 64) for row in rows]
        before = mean_loss(trainer.roles, examples, 16)
        history = train(trainer, 12)
        rises[coefficient] = mean_loss(trainer.roles, examples, 16) - before
        assert ("loss/ptx" in history[-1]) == (coefficient > 0)
    assert rises[0.0] > 0
    assert rises[2.0] <= rises[0.0] / 2


def test_the_running_mean_of_the_policy_is_what_is_kept(make_trainer: Any) -> None:
    trainer = make_trainer(ema=0.5, value_warmup=0, learning_rate=1e-2)
    expected = trainer.roles.state("policy")
    for iteration in (1, 2, 3):
        train(trainer, 1, first=iteration)
        current = trainer.roles.state("policy")
        expected = {name: 0.5 * expected[name] + 0.5 * current[name] for name in current}
    with trainer.kept_policy():
        for name, tensor in trainer.roles.state("policy").items():
            torch.testing.assert_close(tensor, expected[name])
    assert all(torch.equal(tensor, current[name]) for name, tensor in trainer.roles.state("policy").items())
    resumed = make_trainer(ema=0.5)
    places = {name: tensor.data_ptr() for name, tensor in resumed.mean_policy.items()}
    resumed.load_state(trainer.state())  # checkpoints are read on the CPU, whatever device the policy is on
    assert {name: tensor.data_ptr() for name, tensor in resumed.mean_policy.items()} == places
    for name, tensor in resumed.mean_policy.items():
        torch.testing.assert_close(tensor, expected[name])


def test_passes_end_when_the_policy_has_moved_enough(make_trainer: Any) -> None:
    moved = {}
    for limit in (0.0, 1e-6):
        trainer = make_trainer(ppo_epochs=8, max_approxkl=limit, value_warmup=0, learning_rate=1e-2)
        moved[limit] = train(trainer, 1)[0]["policy/approxkl"]
    assert moved[1e-6] < 0.3 * moved[0.0]


def test_a_run_ends_early_when_the_kl_is_too_high(places: Path, tmp_path: Path) -> None:
    settings = settings_in(places, iterations=30, stop_kl=0.05, learning_rate=1e-2, value_warmup=0)
    rundir = make_run(tmp_path / "run", "ppo", settings, prompts=prompt_rows(12))
    session = open_session(rundir)
    ppo.run(session)
    history = [e["metrics"]["objective/kl"] for e in events_of(rundir, "metrics") if "objective/kl" in e["metrics"]]
    assert len(history) < 30
    assert max(history[:-1]) <= 0.05 < history[-1]
    assert "above stop_kl" in events_of(rundir, "warning")[-1]["message"]
    assert session.step == session.total_steps == len(history)
    shutil.rmtree(rundir.artifact)
    ppo.run(open_session(rundir))  # killed before the artifact was there: nothing more is learned
    assert len([e for e in events_of(rundir, "metrics") if "objective/kl" in e["metrics"]]) == len(history)
    assert (rundir.artifact / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"value": "head", "entropy_coef": 0.01, "normalize_scores": True, "ema": 0.9, "ptx_coef": 0.5},
        {"advantage": "grpo", "completions": 4, "ema": 0.9, "lora_dropout": 0.1},
    ],
)
def test_options_resume_to_the_same_bytes(places: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Stopped after every step and started again, against a run that nobody disturbed."""
    settings = settings_in(places, iterations=4, sample_every=2, **options)
    runs = [make_run(tmp_path / name, "ppo", settings, prompts=prompt_rows(12), sft=demonstrations(9)) for name in "ab"]
    ppo.run(open_session(runs[0]))
    for _ in range(3):
        session = open_session(runs[1])
        session.stop = True
        with pytest.raises(StopRequested):
            ppo.run(session)
    ppo.run(open_session(runs[1]))
    weights = [(run.artifact / "adapter_model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"advantage": "rloo"}, "set completions to 2"),
        ({"completions": 3, "batch_size": 16}, "multiple of completions"),
        ({"missing_end": "explode"}, "one of replace, add, ignore"),
        ({"kl_controller": "adaptive", "kl_horizon": 8, "batch_size": 16}, "kl_horizon counts episodes"),
        ({"lora_variant": "adalora", "ema": 0.9}, "ranks that adalora takes away"),
        ({"lora_variant": "adalora", "max_approxkl": 0.1}, "a plan over all steps"),
    ],
)
def test_settings_that_do_not_go_together_are_said(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_config("ppo", settings)


def test_demonstrations_without_an_answer_are_said(places: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="set ptx_coef to 0"):
        trainer_in(places, tmp_path / "run", {"sft": prompt_rows(3)}, ptx_coef=1.0)


def test_prompts_stay_as_they_are(make_trainer: Any) -> None:
    trainer = make_trainer(**GROUPS)
    prompts = prompts_for(trainer, 4)
    assert rollout(trainer).prompts == [prompt for prompt in prompts for _ in range(4)]
