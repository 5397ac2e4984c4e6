"""Where scores come from: a reward adapter on the policy's base, a model of its own, functions, or a sum of these."""

from __future__ import annotations

import importlib.util
import inspect
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rewardmodel.ensemble import Ensemble, agree_on, member_folders, read_combination
from rewardmodel.model import TRAJECTORY, RewardModelError, load_head
from rewardmodel.pessimism import PessimisticHead, UncertainScores
from rewardmodel.tokens import EncodingError, Message, kept_turns

from .artifacts import ADAPTER_CONFIG, read_card
from .config import CONVERSATIONS, PpoConfig, SamplingConfig
from .episodes import Episodes
from .models import RoleModel, adapter_folder
from .session import EngineError
from .tokens import decode

FUNCTIONS = "PREFLOOP_REWARDS"
"""Environment variable of the engine: a Python file whose functions runs may name. Only the operator can set it."""

RewardFunction = Callable[[list[list[Message]]], Sequence[float]]


class RewardSource(Protocol):
    """Scores finished episodes, higher is better."""

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        """One score per episode: (episodes,)."""


class Transcript:
    """Episodes as messages, for whoever reads text. `messages` are those of each prompt, by its ids."""

    def __init__(self, roles: RoleModel) -> None:
        self.roles = roles
        self.messages: dict[tuple[int, ...], list[Message]] = {}
        self._read: dict[tuple[int, ...], list[Message]] = {}

    def know(self, prompts: Sequence[Sequence[int]], rows: Sequence[dict[str, Any]]) -> None:
        """Remember whose ids these are: `rows` of a data file."""
        self.messages = {tuple(ids): row["messages"] for ids, row in zip(prompts, rows, strict=True)}

    def __call__(self, episodes: Episodes) -> list[list[Message]]:
        return [
            [*self._prompt(tuple(prompt)), {"role": "assistant", "content": decode(self.roles, completion)}]
            for prompt, completion in zip(episodes.prompts, episodes.completions, strict=True)
        ]

    def _prompt(self, ids: tuple[int, ...]) -> list[Message]:
        """What the policy read: without the old turns that did not fit."""
        if ids not in self._read:
            self._read[ids] = kept_turns(self.roles.tokenizer, self.messages[ids], len(ids))
        return self._read[ids]


class ModelReward:
    """A reward model with a base and a tokenizer of its own: it reads the text that the policy's tokens spell."""

    def __init__(self, transcript: Transcript, folder: str) -> None:
        self.transcript = transcript
        _refuse_turns(Path(folder))
        try:
            self.model = Ensemble.load(folder, device=transcript.roles.device)
        except (RewardModelError, OSError, ValueError) as error:
            raise EngineError(f"The reward model {folder} cannot be loaded: {error}") from error

    @torch.no_grad()
    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        conversations = self.transcript(episodes)
        try:
            scores = self.model.score(conversations) if conversations else []
        except EncodingError as error:
            raise EngineError(f"The reward model cannot read an answer: {error}") from error
        return torch.tensor(episodes.world.gather(list(scores)), device=episodes.mask.device)


class FunctionReward:
    """What a function says about whole conversations, the last message being the answer."""

    def __init__(self, transcript: Transcript, name: str, function: RewardFunction) -> None:
        self.transcript, self.name, self.function = transcript, name, function

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        conversations = self.transcript(episodes)
        try:
            scores = [float(score) for score in self.function(conversations)] if conversations else []
        except Exception as error:
            raise EngineError(f"The reward function {self.name} failed: {type(error).__name__}: {error}") from error
        if len(scores) != len(conversations) or not all(map(math.isfinite, scores)):
            raise EngineError(f"The reward function {self.name} must give a finite number for each conversation.")
        return torch.tensor(episodes.world.gather(scores), device=episodes.mask.device)


class SumReward:
    """A weighted sum of sources."""

    def __init__(self, terms: list[tuple[float, RewardSource]]) -> None:
        self.terms = terms

    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        return torch.stack([weight * source.score(episodes, micro_batch_size) for weight, source in self.terms]).sum(0)


class AdapterReward:
    """The reward model as one more role: score = (head(h) - mean) / sd, h the state at the last token.

    Of an ensemble, every member is a role. Scores are combined, and made as cautious, as `ensemble.json` says.
    """

    def __init__(self, roles: RoleModel, folder: str, role: str = "reward") -> None:
        path = adapter_folder(folder)
        _refuse_turns(path)
        try:
            self.combination = read_combination(path)
            folders = member_folders(path, self.combination.members)
            heads = [load_head(part).to(roles.device).requires_grad_(False) for part in folders]
            single = self.combination.pessimism and len(heads) == 1
            self.doubtful = PessimisticHead.load(path, roles.device) if single else None
        except RewardModelError as error:
            raise EngineError(str(error)) from error
        self.head, self.roles = heads[0], roles
        self.members = dict(zip([role, *(f"{role}_{part.name}" for part in folders[1:])], heads, strict=True))
        for role, part in zip(self.members, folders, strict=True):
            roles.add_saved(role, part)

    @torch.no_grad()
    def score(self, episodes: Episodes, micro_batch_size: int) -> Tensor:
        scores = torch.zeros(len(self.members), len(episodes), device=self.roles.device)
        doubts = torch.zeros(len(episodes), device=self.roles.device)
        for number, (role, head) in enumerate(self.members.items()):
            self.roles.use(role)
            for micro in episodes.micro_batches(micro_batch_size):
                states = self.roles.hidden(micro.ids, **micro.layout).flatten(0, 1)[micro.ends]
                scores[number, micro.rows] = head(states)
                if self.doubtful:
                    doubts[micro.rows] = self.doubtful.score(states).uncertainty
        scores, doubts = episodes.world.sum(scores), episodes.world.sum(doubts)
        return self.combination(UncertainScores(scores[0], doubts) if self.doubtful else agree_on(scores))

    def linear_head(self) -> nn.Linear:
        """A trainable copy of the head with the normalisation folded in: what a value function starts from."""
        linear = nn.Linear(self.roles.hidden_size, 1, device=self.roles.device)
        with torch.no_grad():
            linear.weight.copy_(self.head.weight / self.head.sd)
            linear.bias.copy_((self.head.bias - self.head.mean) / self.head.sd)
        return linear


def load_rewards(
    roles: RoleModel, transcript: Transcript, config: PpoConfig | SamplingConfig
) -> list[tuple[float, RewardSource]]:
    """The terms of the reward that a run asks for, the reward model first. Raises EngineError where there is none."""
    folders = [line.strip() for line in (config.reward_path, *config.more_reward_paths.splitlines()) if line.strip()]
    terms: list[tuple[float, RewardSource]] = [
        (1.0, _load_model(roles, transcript, folder, config.base, number)) for number, folder in enumerate(folders)
    ]
    for weight, name, function in _named(config.reward_functions):
        terms.append((weight, FunctionReward(transcript, name, function)))
    if not terms:
        raise EngineError("No reward is given: set reward_path to the folder of a reward model.")
    return terms


def combined(terms: list[tuple[float, RewardSource]]) -> RewardSource:
    """One source of all terms."""
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else SumReward(terms)


def _refuse_turns(folder: Path) -> None:
    if (folder / TRAJECTORY).is_file():
        raise EngineError(
            "The reward model rewards single turns, read alone: take one that was trained with rewards_of "
            f"{CONVERSATIONS}."
        )


def _load_model(
    roles: RoleModel, transcript: Transcript, folder: str, base: str, number: int
) -> AdapterReward | ModelReward:
    path = Path(folder)
    trained_on = read_card(path).get("base", base)
    if (path / ADAPTER_CONFIG).is_file() and Path(trained_on).resolve() == Path(base).resolve():
        return AdapterReward(roles, folder, "reward" if number == 0 else f"reward_{number}")
    return ModelReward(transcript, folder)


def _named(terms: str) -> list[tuple[float, str, RewardFunction]]:
    """The functions of "0.5 * brevity + polite" with their weights."""
    wanted = []
    for term in filter(None, (part.strip() for part in terms.split("+"))):
        match = re.fullmatch(r"(?:(-?\d+(?:\.\d+)?)\s*\*\s*)?([A-Za-z]\w*)", term)
        if match is None:
            raise EngineError(f"reward_functions cannot be read at {term!r}: write for example 0.5 * brevity + polite.")
        weight = float(match[1] or 1)
        if math.isinf(weight):
            raise EngineError(f"reward_functions: the weight of {match[2]} is too large.")
        wanted.append((weight, match[2]))
    functions = _functions() if wanted else {}
    for _, name in wanted:
        if name not in functions:
            known = ", ".join(sorted(functions)) or f"none; the engine's {FUNCTIONS} names no file with functions"
            raise EngineError(f"There is no reward function {name}. Known are: {known}.")
    return [(weight, name, functions[name]) for weight, name in wanted]


def _functions() -> dict[str, RewardFunction]:
    """The public functions of the operator's file."""
    path = os.environ.get(FUNCTIONS, "")
    if not path:
        return {}
    spec = importlib.util.spec_from_file_location("prefloop_rewards", path)
    if spec is None or spec.loader is None:
        raise EngineError(f"{FUNCTIONS} must name a Python file, not {path!r}.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise EngineError(f"The reward functions in {path} cannot be loaded: {error}") from error
    mine = inspect.getmembers(module, lambda value: inspect.isfunction(value) and value.__module__ == module.__name__)
    return {name: function for name, function in mine if not name.startswith("_")}
