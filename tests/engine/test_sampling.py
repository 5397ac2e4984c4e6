"""Sampling runs: k completions per prompt from one policy or two, in the order of the prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rewardmodel.model import RewardModel
from tests.engine.tiny import make_run, open_session, prompt_rows, save_adapter, save_base, save_reward
from training.engine import sampling
from training.engine.rollout.split import choose_engine
from training.engine.rundir import RunDir
from training.engine.session import EngineError, StopRequested

SMALL = {"max_new_tokens": 6, "completions": 3, "batch_size": 12}


def completions(rundir: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (rundir.artifact / "completions.jsonl").read_text().splitlines()]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_base(tmp_path / "base"))


def run(rundir: RunDir) -> list[dict[str, Any]]:
    sampling.run(open_session(rundir))
    return completions(rundir)


def test_every_prompt_gets_its_completions_in_order(base: str, tmp_path: Path) -> None:
    prompts = prompt_rows(9)
    found = run(make_run(tmp_path / "run", "sampling", SMALL | {"base": base}, prompts=prompts))
    assert [row["id"] for row in found] == [row["id"] for row in prompts]
    assert [row["messages"] for row in found] == [row["messages"] for row in prompts]
    assert all(len(row["completions"]) == 3 for row in found)
    first = found[0]["completions"][0]
    assert set(first) == {"messages", "finished", "source"}
    assert first["messages"][0]["role"] == "assistant"
    assert "<end>" not in "".join(c["messages"][0]["content"] for row in found for c in row["completions"])
    assert {c["finished"] for row in found for c in row["completions"]} == {True, False}
    assert len({c["messages"][0]["content"] for row in found for c in row["completions"]}) > 10


def test_two_policies_answer_side_by_side(base: str, tmp_path: Path) -> None:
    adapter = str(save_adapter(tmp_path / "adapter"))
    settings = SMALL | {"base": base, "adapter": adapter, "versus": "base", "completions": 1}
    found = run(make_run(tmp_path / "run", "sampling", settings, prompts=prompt_rows(8)))
    assert [[c["source"] for c in row["completions"]] for row in found] == [["policy", "versus"]] * 8
    texts = [[c["messages"][0]["content"] for c in row["completions"]] for row in found]
    assert any(policy != versus for policy, versus in texts)
    swapped = settings | {"adapter": "", "versus": adapter}
    again = run(make_run(tmp_path / "again", "sampling", swapped, prompts=prompt_rows(8)))
    assert again != found


def test_the_seed_decides(base: str, tmp_path: Path) -> None:
    settings = SMALL | {"base": base}
    first = run(make_run(tmp_path / "a", "sampling", settings, prompts=prompt_rows(8)))
    assert run(make_run(tmp_path / "b", "sampling", settings, prompts=prompt_rows(8))) == first
    assert run(make_run(tmp_path / "c", "sampling", settings | {"seed": 1}, prompts=prompt_rows(8))) != first


def test_a_stopped_run_resumes_to_the_same_completions(base: str, tmp_path: Path) -> None:
    settings = SMALL | {"base": base}
    whole = run(make_run(tmp_path / "whole", "sampling", settings, prompts=prompt_rows(10)))
    rundir = make_run(tmp_path / "run", "sampling", settings, prompts=prompt_rows(10))
    rundir.write_control(stop=True)
    with pytest.raises(StopRequested):
        sampling.run(open_session(rundir))
    rundir.write_control()
    assert run(rundir) == whole


def test_a_prompt_that_does_not_fit_is_named(base: str, tmp_path: Path) -> None:
    long = {"id": "too-long", "messages": [{"role": "user", "content": "red " * 70}]}
    rundir = make_run(tmp_path / "run", "sampling", SMALL | {"base": base}, prompts=[*prompt_rows(3), long])
    with pytest.raises(EngineError, match="Prompt too-long has 72 tokens and at most 58 fit"):
        sampling.run(open_session(rundir))


def test_old_turns_make_room(base: str, tmp_path: Path) -> None:
    turns = [{"role": role, "content": "red " * 20} for role in ("user", "assistant", "user", "assistant")]
    row = {"id": "talk", "messages": [*turns, {"role": "user", "content": "blue"}]}
    assert len(run(make_run(tmp_path / "run", "sampling", SMALL | {"base": base}, prompts=[row]))) == 1


def test_a_tokenizer_without_a_chat_template_takes_the_plain_one(base: str, tmp_path: Path) -> None:
    (Path(base) / "chat_template.jinja").unlink()
    settings = SMALL | {"base": base, "completions": 1}
    assert len(run(make_run(tmp_path / "run", "sampling", settings, prompts=prompt_rows(3)))) == 3


def test_the_best_of_many_scores_as_the_maximum_of_as_many(base: str, tmp_path: Path) -> None:
    """Against the expected maximum under the scores of single answers; one that breaks off is worst."""
    reward = save_reward(tmp_path / "reward", Path(base))
    model, rows = RewardModel.load(reward), prompt_rows(1)
    settings = {"base": base, "max_new_tokens": 24, "reward_path": str(reward), "completions": 64, "batch_size": 512}

    def scores_of(best_of: int, seed: int) -> Tensor:
        rundir = make_run(
            tmp_path / f"{best_of} {seed}", "sampling", settings | {"best_of": best_of, "seed": seed}, prompts=rows
        )
        (drawn,) = run(rundir)
        said = [[*rows[0]["messages"], *answer["messages"]] for answer in drawn["completions"]]
        scores = zip(model.score(said), drawn["completions"], strict=True)
        assert all("score" in answer for answer in drawn["completions"]) == (best_of > 1)
        return torch.tensor([score if answer["finished"] else -5.0 for score, answer in scores])

    single = torch.cat([scores_of(1, seed) for seed in range(4)]).sort().values
    for n in (4, 16):
        best = scores_of(n, 9)
        shares = torch.arange(len(single) + 1) / len(single)
        expected = float((single * (shares[1:] ** n - shares[:-1] ** n)).sum())
        assert abs(float(best.mean()) - expected) < 3 * float(best.std()) / 8 + 0.1
        assert float(best.mean()) > float(single.mean()) + 0.3


def test_no_more_answers_are_drawn_at_once_than_asked_for(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt may want more than a batch holds."""
    sizes: list[int] = []

    def choose_counted(*about: Any) -> Any:
        engine = choose_engine(*about)
        generate = engine.generate

        def counted(prompts: list[list[int]], *rest: Any) -> Any:
            sizes.append(len(prompts))
            return generate(prompts, *rest)

        monkeypatch.setattr(engine, "generate", counted)
        return engine

    monkeypatch.setattr(sampling, "choose_engine", choose_counted)
    reward = save_reward(tmp_path / "reward", Path(base))
    settings = SMALL | {"base": base, "best_of": 4, "completions": 10, "reward_path": str(reward)}
    found = run(make_run(tmp_path / "run", "sampling", settings, prompts=prompt_rows(2)))
    assert [len(row["completions"]) for row in found] == [10, 10]
    assert max(sizes) <= SMALL["batch_size"]
    assert sum(sizes) == 2 * 10 * 4
