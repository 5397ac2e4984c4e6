"""Supervised fine-tuning: what counts in the loss, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import (
    END,
    VOCABULARY,
    events_of,
    make_roles,
    make_run,
    open_session,
    randomize,
    save_adapter,
    save_base,
)
from training.engine import sft
from training.engine.config import SftConfig, parse_config
from training.engine.models import RoleModel, load_base
from training.engine.session import EngineError
from training.engine.sft import encode_example, mean_loss, train_step

ANSWERS = {"red": "dog", "green": "cat", "blue": "bird", "one": "sun", "two": "moon", "three": "star"}


def conversation(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def rows(count: int = 60) -> list[dict[str, Any]]:
    """A fixed answer to each of six words; the word "the" stands before some of them."""
    words = list(ANSWERS)
    asked = [(words[i % 6], ["", "the ", "no ", "yes "][i % 4]) for i in range(count)]
    return [{"messages": conversation(prefix + word, ANSWERS[word])} for word, prefix in asked]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_base(tmp_path / "base"))


def test_only_the_assistants_tokens_count() -> None:
    """Both of its turns with their end tokens, and nothing that the person wrote."""
    roles = make_roles()
    example = encode_example(roles, conversation("red sun", "dog", "blue", "bird cat"), 64)
    predicted = [example.ids[state + 1] for state in example.states]
    assert predicted == [*(VOCABULARY["dog"], END), *(VOCABULARY["bird"], VOCABULARY["cat"], END)]


def test_the_loss_is_the_mean_over_assistant_tokens_for_every_micro_batch_size() -> None:
    roles = make_roles()
    roles.add_fresh(sft.ROLE, rank=4, alpha=8)
    randomize(roles, sft.ROLE, 2)
    roles.learn(sft.ROLE)
    batch = [encode_example(roles, row["messages"], 64) for row in rows(7)]
    batch.append(encode_example(roles, conversation("red", "dog cat bird", "blue", "sun"), 64))
    expected, tokens = 0.0, 0
    for example in batch:  # one conversation at a time, whole logits
        logprobs = roles.model(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        expected -= sum(float(logprobs[state, example.ids[state + 1]]) for state in example.states)
        tokens += len(example.states)
    optimizer = torch.optim.SGD(roles.parameters(sft.ROLE), lr=0.0)
    gradients = []
    for size in (8, 3, 1):
        config = parse_config("sft", {"micro_batch_size": size, "max_grad_norm": 1e9})
        assert isinstance(config, SftConfig)
        optimizer.zero_grad = lambda *a, **k: None  # type: ignore[method-assign]
        assert train_step(roles, batch, optimizer, config) == pytest.approx(expected / tokens, abs=1e-5)
        gradients.append([p.grad.clone() for p in roles.parameters(sft.ROLE) if p.grad is not None])
        for p in roles.parameters(sft.ROLE):
            p.grad = None
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
    assert mean_loss(roles, batch, 3) == pytest.approx(expected / tokens, abs=1e-5)


@pytest.mark.parametrize("rank", [4, 0])
def test_it_learns_the_answers(base: str, tmp_path: Path, rank: int) -> None:
    settings = {"base": base, "lora_rank": rank, "epochs": 25, "batch_size": 12, "learning_rate": 1e-2}
    rundir = make_run(tmp_path / "run", "sft", settings | {"eval_fraction": 0.2}, sft=rows())
    sft.run(open_session(rundir))
    metrics = [event["metrics"] for event in events_of(rundir, "metrics")]
    assert metrics[0]["loss/train"] > 2.5
    assert metrics[-1]["loss/train"] < 0.3
    assert metrics[-1]["eval/loss"] < 1.5
    trained = load_result(rundir.path / "artifact", base, rank)
    examples = [encode_example(trained, row["messages"], 64) for row in rows()]
    assert mean_loss(trained, examples, 16) < 0.5


def load_result(artifact: Path, base: str, rank: int) -> RoleModel:
    source = base if rank else str(artifact)
    session = open_session(make_run(artifact.parent / "again", "sft", {"base": source}))
    roles = load_base(session)
    if rank:
        roles.add_saved(sft.ROLE, artifact)
    else:
        roles.add_alias(sft.ROLE, "base")
    return roles


def test_it_goes_on_from_an_adapter(base: str, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    settings = {"base": base, "adapter": str(adapter), "learning_rate": 0.0, "eval_fraction": 0.0}
    rundir = make_run(tmp_path / "run", "sft", settings, sft=rows(16))
    sft.run(open_session(rundir))
    name = "adapter_model.safetensors"
    assert (rundir.artifact / name).read_bytes() == (adapter / name).read_bytes()


@pytest.mark.parametrize(
    ("data", "changes", "sentence"),
    [
        ([], {}, "no data"),
        ([{"messages": conversation("red")}], {}, "No conversation has an assistant message"),
        (rows(4), {"lora_rank": 0, "adapter": "somewhere"}, "leave adapter empty"),
        (rows(4), {"base": "/nowhere/at/all"}, "does not exist"),
        ([{"messages": [{"role": "user", "content": 7}]}], {}, "cannot be encoded"),
    ],
)
def test_what_cannot_be_trained_is_said(
    base: str, tmp_path: Path, data: list[dict[str, Any]], changes: dict[str, Any], sentence: str
) -> None:
    rundir = make_run(tmp_path / "run", "sft", {"base": base} | changes, sft=data)
    with pytest.raises(EngineError, match=sentence):
        sft.run(open_session(rundir))
