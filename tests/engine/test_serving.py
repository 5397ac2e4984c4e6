"""Answers in parts, from a base and a policy on it, several at once: the same as the rollout engine gives."""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import END, make_roles, save_adapter
from training.engine.data import generator_for
from training.engine.models import RoleModel
from training.engine.rollout import Sampling
from training.engine.rollout.reference import ReferenceEngine
from training.engine.serving import Answerer, Request, read_requests, serve
from training.engine.tokens import decode, encode_prompts

LONGEST = 12


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_adapter(tmp_path_factory.mktemp("serving") / "policy"))


def request(number: int, adapter: str = "", text: str = "red sun", **changes: Any) -> Request:
    values = {"max_new_tokens": LONGEST, "temperature": 1.0} | changes
    return Request(number, adapter, [{"role": "user", "content": text}], **values)


def answer_all(*batches: list[Request], roles: RoleModel | None = None) -> dict[int, list[dict[str, Any]]]:
    """What is told of each request, in its order; batches come a step after one another."""
    told: dict[int, list[dict[str, Any]]] = {}
    answerer = Answerer(roles or make_roles(), lambda message: told.setdefault(message["id"], []).append(message))
    waiting = list(batches)
    while waiting or answerer.groups:
        answerer.admit(waiting.pop(0) if waiting else [])
        answerer.step()
    return told


def final(told: dict[int, list[dict[str, Any]]]) -> dict[int, tuple[str, str]]:
    return {number: (messages[-1]["state"], messages[-1].get("text", "")) for number, messages in told.items()}


def expected(roles: RoleModel, one: Request, role: str) -> str:
    """The answer by the rollout engine, alone."""
    roles.use(role)
    prompt = encode_prompts(roles, [{"messages": one.messages}], max_tokens=64, new_tokens=LONGEST)
    sampling = Sampling(LONGEST, one.temperature, (END,))
    [answer] = ReferenceEngine(roles).generate(prompt, sampling, generator_for(0, "chat", one.id))
    return decode(roles, answer)


def test_an_answer_does_not_depend_on_who_else_asks_nor_when(adapter: str) -> None:
    asked = [
        request(n, adapter if n % 2 else "", text) for n, text in enumerate(["red sun", "cat", "good dog yes", "no"])
    ]
    together = final(answer_all(asked))
    assert final(answer_all(*([one] for one in asked))) == together
    roles = make_roles()
    roles.add_saved("policy", Path(adapter))
    for one in asked:
        assert together[one.id] == ("done", expected(roles, one, "policy" if one.adapter else "base"))
    assert len({text for _, text in together.values()}) > 1


def test_an_answer_comes_in_parts_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.engine.serving.PULSE", 0.0)
    told = answer_all([request(n) for n in range(6)])
    longest = max(told.values(), key=len)
    assert len(longest) > 3
    texts = [message["text"] for message in longest]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
    assert [message["state"] for message in longest] == ["writing"] * (len(longest) - 1) + ["done"]


def test_an_answer_says_whether_it_was_cut_off() -> None:
    told = answer_all([request(n, max_new_tokens=3) for n in range(20)])
    assert {messages[-1]["cut"] for messages in told.values()} == {True, False}


def test_a_request_that_cannot_be_answered_does_not_harm_the_others(tmp_path: Path) -> None:
    too_long = request(2, text="red " * 100)
    told = answer_all([request(1, adapter=str(tmp_path)), too_long, request(3)])
    assert [messages[-1]["state"] for _, messages in sorted(told.items())] == ["failed", "failed", "done"]
    assert "is not a LoRA adapter" in told[1][0]["error"]
    assert "at most" in told[2][0]["error"]


def test_a_longest_answer_leaves_half_of_the_context_to_what_was_said() -> None:
    told = answer_all([request(1, max_new_tokens=4096, temperature=5.0)], roles=make_roles(context=32))
    assert told[1][-1]["state"] == "done"


def test_serving_ends_with_its_input_even_in_mid_answer() -> None:
    waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    read_requests([json.dumps(asdict(request(1)))], waiting)
    server = threading.Thread(target=serve, args=(Answerer(make_roles(), lambda message: None), waiting))
    server.start()
    server.join(60)
    assert not server.is_alive()


def test_streaming_draws_what_generating_draws() -> None:
    roles = make_roles()
    roles.use("base")
    prompts, sampling = [[2, 5, 3], [2, 6, 7, 3]], Sampling(LONGEST, 1.0, (END,))
    uniforms = torch.rand(2, LONGEST, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        steps = list(ReferenceEngine(roles).stream(prompts, sampling, uniforms))
    answers = ReferenceEngine(roles).generate(prompts, sampling, torch.Generator().manual_seed(1))
    assert [tokens.shape[1] for tokens, _ in steps] == list(range(1, len(steps) + 1))
    for row, answer in enumerate(answers):
        assert steps[-1][0][row, : len(answer.ids)].tolist() == answer.ids
