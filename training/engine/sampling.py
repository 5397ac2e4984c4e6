"""Sampling runs: k completions per prompt, from one policy or from two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from . import artifacts
from .config import SamplingConfig
from .data import generator_for, read_rows
from .models import RoleModel, adapter_folder, load_base
from .rollout import RolloutEngine, Sampling
from .rollout.fast import choose_engine
from .rundir import write_jsonl
from .session import Session
from .tokens import decode, encode_prompts, end_ids


def run(session: Session) -> None:
    """Draw `completions` answers per prompt of `data/prompts.jsonl` into `artifact/completions.jsonl`."""
    config = cast(SamplingConfig, session.config)
    session.stage("load", "Loading the model and the prompts.")
    roles = load_base(session)
    sources = _add_sources(roles, config)
    rows = read_rows(session.rundir, "prompts.jsonl")
    limits = {"max_tokens": config.max_prompt_tokens, "new_tokens": config.max_new_tokens}
    prompts = encode_prompts(roles, rows, **limits)
    sampling = Sampling(config.max_new_tokens, config.temperature, tuple(end_ids(roles)))
    engine = choose_engine(roles)
    # Prompts of similar length together: less padding. The rows are put back in order at the end.
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    size = max(1, config.batch_size // config.completions)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    session.stage("sample", f"{len(rows)} prompts, {config.completions} completions each.", total_steps=len(batches))
    done, saved = session.resume()
    drawn: dict[str, list[dict[str, Any]]] = saved["drawn"] if saved else {}  # row number -> completions
    for step in range(done + 1, len(batches) + 1):
        batch = batches[step - 1]
        for source in sources:
            repeated = [prompts[i] for i in batch for _ in range(config.completions)]
            answers = _draw(roles, engine, source, repeated, sampling, step, config.seed)
            for number, answer in enumerate(answers):
                drawn.setdefault(str(batch[number // config.completions]), []).append(answer)
        session.metrics(step, _statistics(drawn))
        session.end_step(step, lambda: {"drawn": drawn})
    completed = [
        {"id": row["id"], "messages": row["messages"], "completions": drawn[str(i)]} for i, row in enumerate(rows)
    ]
    artifacts.write(session, "completions", "completions", _statistics(drawn), lambda folder: _save(folder, completed))


def _add_sources(roles: RoleModel, config: SamplingConfig) -> list[str]:
    """Roles "policy" and, when asked for, "versus"."""
    for role, path in (("policy", config.adapter or "base"), ("versus", config.versus)):
        if path == "base":
            roles.add_alias(role, "base")
        elif path:
            roles.add_saved(role, adapter_folder(path), config.adapter_rank if role == "policy" else 0)
    return ["policy", "versus"] if config.versus else ["policy"]


def _draw(
    roles: RoleModel,
    engine: RolloutEngine,
    source: str,
    prompts: list[list[int]],
    sampling: Sampling,
    step: int,
    seed: int,
) -> list[dict[str, Any]]:
    roles.use(source)
    answers = engine.generate(prompts, sampling, generator_for(seed, source, step))
    return [
        {
            "messages": [{"role": "assistant", "content": decode(roles, answer)}],
            "finished": answer.finished,
            "source": source,
        }
        for answer in answers
    ]


def _statistics(drawn: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    answers = [answer for answers in drawn.values() for answer in answers]
    return {"objective/ended": sum(answer["finished"] for answer in answers) / len(answers)}


def _save(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(folder / "completions.jsonl", rows)
