"""PPO on a tiny language: its invariants, its controls, and that it learns what it is paid for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.model import RewardModel
from tests.engine.small_ppo import Paid, gradients_of, prompts_for, rollout, save_places, settings_in, train, trainer_in
from tests.engine.tiny import (
    END,
    SPECIALS,
    VOCABULARY,
    events_of,
    make_run,
    make_tokenizer,
    open_session,
    prompt_rows,
    randomize,
)
from training.engine import ppo
from training.engine.config import parse_config
from training.engine.episodes import Episodes
from training.engine.rollout import Completion
from training.engine.session import EngineError
from training.engine.tokens import encode_prompts
from training.engine.trainer import Trainer


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_places(tmp_path_factory.mktemp("models"))


@pytest.fixture
def make_trainer(places: Path, tmp_path: Path) -> Any:
    return lambda **changes: trainer_in(places, tmp_path / "run", **changes)


# Invariants


def test_the_first_pass_has_ratio_1_and_kl_0(make_trainer: Any) -> None:
    trainer = make_trainer(ppo_epochs=1, value_warmup=0)
    (metrics,) = train(trainer, 1)
    assert metrics["val/ratio"] == 1.0
    assert metrics["policy/approxkl"] == 0.0
    assert metrics["policy/clipfrac"] == 0.0
    assert metrics["objective/kl"] == 0.0
    assert metrics["objective/kl_k3"] == 0.0
    (second,) = train(trainer, 1, first=2)
    assert second["val/ratio"] == 1.0
    assert second["objective/kl"] != 0.0


def test_at_ratio_1_the_gradient_is_the_policy_gradient(make_trainer: Any) -> None:
    trainer = make_trainer()
    episodes = rollout(trainer)
    experience = trainer.assess(episodes)
    rows = torch.arange(16)
    found = gradients_of(trainer, episodes, experience, rows)
    trainer.roles.use("policy")
    objective = torch.zeros(())
    for i, completion in enumerate(episodes.completions):  # one row at a time, whole logits
        start = int(episodes.starts[i])
        ids = episodes.ids[i : i + 1, : int(episodes.lengths[i])]
        logprobs = trainer.roles.model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        chosen = logprobs.gather(-1, torch.tensor(completion.ids)[:, None])[:, 0]
        objective = objective + (chosen * experience.advantages[i, : len(chosen)]).sum()
    expected = torch.autograd.grad(-objective / episodes.tokens, trainer.roles.parameters("policy"))
    for mine, plain in zip(found, expected, strict=False):
        torch.testing.assert_close(mine, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_micro_batch_size_changes_nothing(make_trainer: Any, size: int) -> None:
    trainer = make_trainer()
    episodes = rollout(trainer)
    experience = trainer.assess(episodes)
    randomize(trainer.roles, "policy", 3, scale=0.1)  # away from ratio 1
    rows = torch.arange(1, 13)
    whole = gradients_of(trainer, episodes, experience, rows)
    trainer.config = dataclasses.replace(trainer.config, micro_batch_size=size)
    for one, many in zip(whole, gradients_of(trainer, episodes, experience, rows), strict=True):
        torch.testing.assert_close(many, one, atol=1e-5, rtol=1e-5)
    again = trainer.assess(episodes)
    trainer.config = dataclasses.replace(trainer.config, micro_batch_size=16)
    for field, value in vars(trainer.assess(episodes)).items():
        torch.testing.assert_close(getattr(again, field), value, atol=1e-5, rtol=1e-5, msg=field)


def test_what_stands_behind_the_end_gets_no_gradient(make_trainer: Any) -> None:
    """Other tokens in the padding and a longer neighbour leave every gradient as it is."""
    trainer = make_trainer(score_clip=100.0)
    episodes = rollout(trainer)
    experience = trainer.assess(episodes)
    rows = torch.arange(15)
    before = gradients_of(trainer, episodes, experience, rows)
    behind = torch.arange(episodes.ids.shape[1]) >= episodes.lengths[:, None]
    assert bool(behind.any())
    episodes.ids[behind] = VOCABULARY["moon"]
    for table in (experience.logprobs, experience.values, experience.advantages, experience.returns):
        table[~episodes.mask] = 1e6
    for one, other in zip(before, gradients_of(trainer, episodes, experience, rows), strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-5)


def test_the_base_the_reward_and_the_reference_never_change(make_trainer: Any, places: Path) -> None:
    trainer = make_trainer(adapter=str(places / "adapter"))
    roles = trainer.roles
    checksum = roles.base_checksum()
    frozen = {role: roles.state(role) for role in ("reward", "reference")}
    start = roles.state("policy")
    train(trainer, 4)
    assert roles.base_checksum() == checksum
    for role, state in frozen.items():
        for name, tensor in roles.state(role).items():
            assert torch.equal(tensor, state[name]), (role, name)
    assert any(not torch.equal(tensor, start[name]) for name, tensor in roles.state("policy").items())


def test_the_reference_is_the_sft_adapter_where_there_is_one(make_trainer: Any, places: Path) -> None:
    """With the adapters off, the reference would be a model that nobody tuned."""
    trainer = make_trainer(adapter=str(places / "adapter"), value_warmup=0)
    episodes = rollout(trainer)
    policy = trainer.read(episodes, "policy").logprobs
    reference = trainer.read(episodes, "reference").logprobs
    base = trainer.read(episodes, "base").logprobs
    assert torch.equal(reference, policy)
    assert float((base - policy).abs().max()) > 0.1
    train(trainer, 2)
    assert torch.equal(trainer.read(episodes, "reference").logprobs, reference)
    assert not torch.equal(trainer.read(episodes, "policy").logprobs, policy)


def test_scores_are_those_of_the_reward_model_alone(make_trainer: Any, places: Path) -> None:
    """On one base with the other roles, in a padded batch, by ids: the same as the reward model by text."""
    trainer = make_trainer()
    episodes = rollout(trainer)
    scores = trainer.reward.score(episodes, 5)
    alone = RewardModel.load(places / "reward")
    for i, row in enumerate(prompt_rows(16)):
        ids = episodes.completions[i].ids[:-1]
        if not episodes.finished[i] or min(ids, default=0) < len(SPECIALS):
            continue  # a control token that a policy wrote cannot be written in a text
        answer = make_tokenizer().decode(ids)
        (expected,) = alone.score([[*row["messages"], {"role": "assistant", "content": answer}]])
        assert float(scores[i]) == pytest.approx(expected, abs=1e-4)
    assert float(scores.std()) > 0.01


def test_values_start_as_what_the_reward_model_thinks(make_trainer: Any) -> None:
    """The value of the state behind an answer's last but one token is the score of the text up to there."""
    trainer = make_trainer()
    episodes = rollout(trainer)
    values = trainer.read(episodes, "value").values
    cut = [Completion(c.ids[:-1], False, c.logprobs[:-1]) for c in episodes.completions if len(c.ids) > 1]
    prompts = [p for p, c in zip(prompts_for(trainer), episodes.completions, strict=True) if len(c.ids) > 1]
    scores = trainer.reward.score(Episodes(prompts, cut, torch.device("cpu")), 16)
    last = [values[i, len(c.ids) - 1] for i, c in enumerate(episodes.completions) if len(c.ids) > 1]
    torch.testing.assert_close(torch.stack(last), scores, atol=1e-5, rtol=1e-5)


def test_answers_without_an_end_get_the_missing_end_score(make_trainer: Any) -> None:
    trainer = make_trainer(missing_end_score=-3.0)
    trainer.reward = Paid(lambda ids: 9.0)
    episodes = rollout(trainer)
    experience = trainer.assess(episodes)
    scores = experience.scores
    assert {bool(f) for f in episodes.finished} == {True, False}
    assert scores[episodes.finished].unique().tolist() == [5.0]  # clipped
    assert scores[~episodes.finished].unique().tolist() == [-3.0]
    assert experience.metrics["objective/scores"] == 9.0  # as on held-out prompts
    assert experience.metrics["objective/paid_scores"] == pytest.approx(float(scores.mean()))


def test_the_reward_is_score_minus_beta_times_kl(make_trainer: Any) -> None:
    trainer = make_trainer(kl_coef=0.7)
    randomize(trainer.roles, "policy", 4, scale=0.1)
    metrics = trainer.assess(rollout(trainer)).metrics
    expected = metrics["objective/paid_scores"] - 0.7 * metrics["objective/kl"]
    assert metrics["objective/rlhf_reward"] == pytest.approx(expected, abs=1e-5)
    assert metrics["objective/kl_k3"] > 0


def test_warm_up_trains_the_value_function_only(make_trainer: Any) -> None:
    trainer = make_trainer(value_warmup=8, value_learning_rate=1e-2, linear_decay=False)
    start = trainer.roles.state("policy")
    history = train(trainer, 8)
    assert all(torch.equal(tensor, start[name]) for name, tensor in trainer.roles.state("policy").items())
    assert history[-1]["objective/kl"] == 0.0
    assert history[-1]["loss/value"] < 0.7 * history[0]["loss/value"]
    train(trainer, 1, first=9)
    assert any(not torch.equal(tensor, start[name]) for name, tensor in trainer.roles.state("policy").items())


def test_the_self_check_refuses_a_sampler_that_disagrees(make_trainer: Any) -> None:
    trainer = make_trainer()
    prompts = prompts_for(trainer)
    assert trainer.self_check(prompts, 0) < 1e-4
    honest = trainer.engine.generate

    def lie(*arguments: Any) -> list[Completion]:
        return [Completion(c.ids, c.finished, [p - 0.5 for p in c.logprobs]) for c in honest(*arguments)]

    trainer.engine.generate = lie
    with pytest.raises(EngineError, match="disagree"):
        trainer.self_check(prompts, 0)


def test_more_mini_batches_than_episodes_are_as_many_as_there_are(make_trainer: Any) -> None:
    (metrics,) = train(make_trainer(mini_batches=100, batch_size=3, value_warmup=0), 1)
    assert metrics["val/ratio"] == pytest.approx(1.0, abs=0.2)


def test_dropout_acts_while_learning_and_only_then(make_trainer: Any) -> None:
    trainer = make_trainer(lora_dropout=0.5, ppo_epochs=1, value_warmup=0)
    randomize(trainer.roles, "policy", 3, scale=0.1)
    episodes = rollout(trainer)
    experience = trainer.assess(episodes)
    assert trainer.learn(episodes, experience, 1)["policy/approxkl"] > 1e-4
    assert torch.equal(trainer.read(episodes, "policy").logprobs, trainer.read(episodes, "policy").logprobs)


# Controls and learning

LEARNING = {
    "batch_size": 64,
    "micro_batch_size": 64,
    "learning_rate": 1e-2,
    "value_learning_rate": 1e-2,
    "linear_decay": False,
}


def test_a_planted_reward_is_learned(make_trainer: Any) -> None:
    """Paid for "good" and for ending; the share of such tokens must rise far above the reference's."""
    trainer = make_trainer(**LEARNING, kl_coef=0.02)
    good = VOCABULARY["good"]
    trainer.reward = Paid(lambda ids: sum(token == good for token in ids))
    history = train(trainer, 20)
    assert history[0]["objective/paid_scores"] < 0.5
    assert history[-1]["objective/paid_scores"] > 1.5
    assert history[-1]["objective/kl"] > 1.0
    assert history[-1]["objective/ended"] > history[0]["objective/ended"]


def test_a_constant_reward_leaves_the_policy_at_the_reference(make_trainer: Any) -> None:
    """With the very settings under which a reward moves it by more than 1 (the test above)."""
    trainer = make_trainer(**LEARNING, kl_coef=0.2, missing_end_score=1.0)
    trainer.reward = Paid(lambda ids: 1.0)
    history = train(trainer, 20)
    assert max(metrics["objective/kl_k3"] for metrics in history) < 0.25


def test_a_high_beta_keeps_the_policy_closer(make_trainer: Any) -> None:
    drift = {}
    for beta in (0.01, 1.0):
        trainer = make_trainer(**LEARNING, kl_coef=beta)
        trainer.reward = Paid(lambda ids: sum(token == VOCABULARY["good"] for token in ids))
        drift[beta] = train(trainer, 8)[-1]["objective/kl_k3"]
    assert drift[1.0] < 0.5 * drift[0.01]


def test_the_adaptive_controller_raises_beta_when_kl_is_too_high(make_trainer: Any) -> None:
    trainer = make_trainer(**LEARNING, kl_coef=0.05, kl_controller="adaptive", kl_target=0.1, kl_horizon=200)
    trainer.reward = Paid(lambda ids: sum(token == VOCABULARY["good"] for token in ids))
    history = train(trainer, 12)
    assert history[0]["objective/kl_coef"] == 0.05
    assert history[-1]["objective/kl_coef"] > 0.05


# The whole run


def test_a_run_writes_metrics_samples_and_an_artifact(places: Path, tmp_path: Path) -> None:
    settings = settings_in(places, iterations=4, sample_every=2, samples=3, checkpoint_every=2)
    rundir = make_run(tmp_path / "run", "ppo", settings, prompts=prompt_rows(24, held_out=5))
    session = open_session(rundir)
    ppo.run(session)
    steps = {e["step"]: e["metrics"] for e in events_of(rundir, "metrics") if "objective/kl" in e["metrics"]}
    assert sorted(steps) == [1, 2, 3, 4]
    expected = {
        *("objective/kl", "objective/scores", "objective/rlhf_reward", "objective/kl_coef", "objective/length"),
        *("objective/ended", "policy/approxkl", "policy/clipfrac", "policy/entropy", "loss/policy", "loss/value"),
        *("val/ratio", "perf/tokens_per_second", "perf/seconds_generate", "perf/seconds_score", "perf/seconds_train"),
    }
    assert all(expected <= set(metrics) for metrics in steps.values())
    held_out = [e["metrics"] for e in events_of(rundir, "metrics") if "eval/scores" in e["metrics"]]
    assert len(held_out) == 3
    assert held_out[0]["eval/scores"] == held_out[0]["eval/reference_scores"]
    samples = events_of(rundir, "sample")
    assert [e["step"] for e in samples] == [0] * 3 + [2] * 3 + [4] * 3
    shown = [row["messages"] for row in prompt_rows(24, held_out=5) if row.get("split") == "eval"]
    assert [e["prompt"] for e in samples[:3]] == shown[:3]
    assert all(e["completion"] == e["reference"] and e["score"] == e["reference_score"] for e in samples[:3])
    files = {path.name for path in rundir.artifact.iterdir()}
    assert files == {"card.json", "README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert sorted(path.name for path in rundir.checkpoints.iterdir()) == ["step_000002", "step_000004"]


def test_held_out_prompts_are_never_trained_on(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = prompt_rows(12, held_out=4)
    rundir = make_run(tmp_path / "run", "ppo", settings_in(places, iterations=3), prompts=rows)
    learned: list[list[int]] = []
    original = Trainer.learn

    def watch(self: Trainer, episodes: Episodes, *rest: Any) -> dict[str, float]:
        learned.extend(row[: int(n)].tolist() for row, n in zip(episodes.ids, episodes.starts, strict=True))
        return original(self, episodes, *rest)

    monkeypatch.setattr(Trainer, "learn", watch)
    session = open_session(rundir)
    ppo.run(session)
    roles = ppo.build(open_session(rundir), session.config).roles  # type: ignore[arg-type]
    encoded = encode_prompts(roles, rows, max_tokens=64, new_tokens=8)
    allowed = [ids for ids, row in zip(encoded, rows, strict=True) if "split" not in row]
    assert all(ids in allowed for ids in learned)
    assert all(ids in learned for ids in allowed)


def test_end_tokens_come_from_the_template_too(make_trainer: Any) -> None:
    assert make_trainer().sampling.end_ids == (END,)
    assert parse_config("ppo", {}).seed == 0
