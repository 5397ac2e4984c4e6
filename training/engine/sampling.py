"""Sampling runs: k completions per prompt, from one policy or from two side by side.

With `best_of` n, each completion is the best of n by the reward model, which moves the policy by at most
log n - (n - 1) / n nats of KL without any training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from rewardmodel.processes import World

from . import artifacts
from .config import SamplingConfig
from .data import generator_for, read_rows
from .episodes import Episodes
from .models import RoleModel, adapter_folder, load_base
from .reward_sources import RewardSource, Transcript, combined, load_rewards
from .rollout import Completion, RolloutEngine, Sampling
from .rollout.split import choose_engine
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
    transcript = Transcript(roles)
    transcript.know(prompts, rows)
    reward = combined(load_rewards(roles, transcript, config)) if config.best_of > 1 else None
    sampling = Sampling(config.max_new_tokens, config.temperature, tuple(end_ids(roles)))
    engine = choose_engine(roles, session.world, config.best_of)
    sampler = Sampler(config, roles, engine, sampling, reward, session.world)
    # Prompts of similar length together: less padding. The rows are put back in order at the end.
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    size = max(1, config.batch_size // (config.completions * config.best_of))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    session.stage("sample", f"{len(rows)} prompts, {config.completions} completions each.", total_steps=len(batches))
    done, saved = session.resume()
    drawn: dict[str, list[dict[str, Any]]] = saved["drawn"] if saved else {}  # row number -> completions
    for step in range(done + 1, len(batches) + 1):
        batch = batches[step - 1]
        for source in sources:
            repeated = [prompts[i] for i in batch for _ in range(config.completions)]
            answers = sampler.draw(source, repeated, step)
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


@dataclass(frozen=True)
class Sampler:
    """Draws answers; with a reward, the best of several for each."""

    config: SamplingConfig
    roles: RoleModel
    engine: RolloutEngine
    sampling: Sampling
    reward: RewardSource | None
    world: World

    def draw(self, source: str, prompts: list[list[int]], step: int) -> list[dict[str, Any]]:
        """One answer per prompt of a role, as the artifact's rows hold them."""
        generator = generator_for(self.config.seed, source, step)
        size = max(1, self.config.batch_size // self.config.best_of)  # one prompt may ask for more than a batch
        parts = [prompts[first : first + size] for first in range(0, len(prompts), size)]
        return [row for part in parts for row in self._draw(source, part, generator)]

    def _draw(self, source: str, prompts: list[list[int]], generator: torch.Generator) -> list[dict[str, Any]]:
        each = self.config.best_of
        repeated = [prompt for prompt in prompts for _ in range(each)]
        self.roles.use(source)
        answers = self.engine.generate(repeated, self.sampling, generator)
        if self.reward is None:
            return [self._row(answer, source) for answer in answers]
        episodes = Episodes(repeated, answers, self.roles.device, world=self.world)
        scores = self.reward.score(episodes, self.config.batch_size).tolist()
        best = []
        for first in range(0, len(answers), each):
            # The reward model was not asked about answers that break off.
            chosen = max(range(first, first + each), key=lambda i: (answers[i].finished, scores[i]))
            best.append(self._row(answers[chosen], source) | {"score": round(scores[chosen], 5)})
        return best

    def _row(self, answer: Completion, source: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": decode(self.roles, answer)}
        return {"messages": [message], "finished": answer.finished, "source": source}


def _statistics(drawn: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    answers = [answer for answers in drawn.values() for answer in answers]
    values = {"objective/ended": sum(answer["finished"] for answer in answers) / len(answers)}
    scores = [answer["score"] for answer in answers if "score" in answer]
    return values | ({"objective/scores": sum(scores) / len(scores)} if scores else {})


def _save(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(folder / "completions.jsonl", rows)
