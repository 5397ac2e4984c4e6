"""Several reward models on one base: their mean is the score, their deviation says where not to trust it.

Each member has an adapter and a head of its own and is trained on a bootstrap sample of the prompts, watched on those
that the sample left out, about 1/e of all (Christiano et al. 2017). With z the normalised scores of the members,

    score = (mean z - pessimism * uncertainty - mean) / sd

where the last two bring the score to mean 0 and deviation 1 on the training completions. The uncertainty is the
members' deviation; a single model has the one of its `PessimisticHead`, if any. A saved ensemble is its first member's
folder with the others in `member_1`, `member_2`, ... and `ensemble.json`; so a single model is one of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from rewardmodel.data import Encoded
from rewardmodel.model import TRAJECTORY, RewardModel, RewardModelError
from rewardmodel.pessimism import PessimisticHead, UncertainScores
from rewardmodel.reading import Groups
from rewardmodel.tokens import Message
from rewardmodel.trajectory import TrajectoryModel

ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Combination:
    """How members' scores become one."""

    members: int = 1
    pessimism: float = 0.0
    mean: float = 0.0
    sd: float = 1.0

    def __call__(self, judged: UncertainScores) -> Tensor:
        """The score: (rows,)."""
        return (judged.lower(self.pessimism) - self.mean) / self.sd


def agree_on(scores: Tensor) -> UncertainScores:
    """Mean and deviation of members' scores (members, rows), each normalised by its own head."""
    return UncertainScores(scores.mean(0), scores.std(0, correction=0))


def read_combination(folder: Path) -> Combination:
    """What `ensemble.json` says; without one, the folder is a single model. Raises RewardModelError."""
    path = folder / ENSEMBLE
    if not path.is_file():
        return Combination()
    try:
        return Combination(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RewardModelError(f"{folder} holds no ensemble: {ENSEMBLE} cannot be read ({error}).") from error


def member_folders(folder: Path, members: int) -> list[Path]:
    """Where the members of a saved ensemble are."""
    return [folder, *(folder / f"member_{number}" for number in range(1, members))]


class Ensemble:
    """Trained members on one base. Make one with `EnsembleFit` or `cautious`, or `load` one."""

    def __init__(
        self, members: Sequence[RewardModel], combination: Combination, doubtful: PessimisticHead | None = None
    ) -> None:
        """`doubtful` is the head of a single member that knows how uncertain it is."""
        self.members, self.combination, self._doubtful = list(members), combination, doubtful

    @classmethod
    def cautious(cls, model: RewardModel, train: Sequence[Encoded], pessimism: float) -> Ensemble:
        """A single trained model less `pessimism` times what the comparisons leave uncertain of its head."""
        made = cls([model], Combination(), PessimisticHead.of(model, train))
        made.normalise(train, pessimism)
        return made

    @classmethod
    def load(cls, folder: Path | str, *, base: str = "", device: torch.device | str = "cpu") -> Ensemble:
        """A saved ensemble, or a single saved model as an ensemble of one."""
        folder = Path(folder)
        combination = read_combination(folder)
        kind = TrajectoryModel if (folder / TRAJECTORY).is_file() else RewardModel
        first = kind.load(folder, base=base, device=device)
        others = member_folders(folder, combination.members)[1:]
        members = [first, *(first.load_sibling(n, part) for n, part in enumerate(others, start=1))]
        single = combination.pessimism and len(members) == 1
        return cls(members, combination, PessimisticHead.load(folder, first.device) if single else None)

    def save(self, folder: Path) -> None:
        """Write the members into an existing folder, the same bytes for the same weights."""
        for member, part in zip(self.members, member_folders(folder, len(self.members)), strict=True):
            part.mkdir(exist_ok=True)
            member.save(part)
        if self._doubtful:
            self._doubtful.save(folder)
        text = json.dumps(asdict(self.combination), indent=1, sort_keys=True)
        (folder / ENSEMBLE).write_text(text + "\n", encoding="utf-8")

    def normalise(self, train: Sequence[Encoded], pessimism: float) -> None:
        """From now on, scores are pessimistic, and have mean 0 and deviation 1 on these items' completions.

        Raises RewardModelError when all completions score alike.
        """
        judged = self.judge([e.sequences for e in train])
        lower = torch.cat([scores.lower(pessimism) for scores in judged]).double()
        mean, sd = float(lower.mean()), float(lower.std(correction=0))
        if not sd > 0:
            raise RewardModelError("Every completion has the same score: the reward models learned nothing.")
        self.combination = Combination(len(self.members), pessimism, mean, sd)

    @torch.no_grad()
    def judge(self, groups: Groups) -> list[UncertainScores]:
        """Normalised scores of each group's sequences and their uncertainty, before the last normalisation."""
        if self._doubtful:
            head = self._doubtful
            judged = self.members[0].group_scores(groups, lambda states: torch.stack(head.score(states), dim=1))
            return [UncertainScores(both[:, 0], both[:, 1]) for both in judged]
        of_members = [[member.head.normalised(raw) for raw in member.group_scores(groups)] for member in self.members]
        return [agree_on(torch.stack(scores)) for scores in zip(*of_members, strict=True)]

    def group_scores(self, groups: Groups) -> list[Tensor]:
        """Scores of each group's sequences, before the last normalisation, in logits like a single model's raw ones."""
        scale = torch.stack([member.head.sd for member in self.members]).mean()
        return [scale * scores.lower(self.combination.pessimism) for scores in self.judge(groups)]

    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Normalised scores of whole conversations."""
        return [float(score) for one in self._judge_alone(conversations) for score in self.combination(one)]

    @torch.no_grad()
    def turn_rewards(self, conversations: Sequence[Sequence[Message]]) -> list[list[float]]:
        """What each turn adds to the scores of whole conversations, where the members reward turns.

        Without pessimism, which is of the whole. Raises RewardModelError where they do not.
        """
        members = [member for member in self.members if isinstance(member, TrajectoryModel)]
        if len(members) < len(self.members):
            raise RewardModelError("These members score whole conversations, and no turns.")
        found = zip(*(member.turn_rewards(conversations) for member in members), strict=True)
        mean, sd = self.combination.mean, self.combination.sd
        return [
            [(fmean(of_members) - mean / len(turns[0])) / sd for of_members in zip(*turns, strict=True)]
            for turns in found
        ]

    def uncertainty(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """How far the scores of whole conversations may be off; 0 for a single model without a `PessimisticHead`."""
        return [float(score) for one in self._judge_alone(conversations) for score in one.uncertainty]

    def _judge_alone(self, conversations: Sequence[Sequence[Message]]) -> list[UncertainScores]:
        return self.judge([[self.members[0].encode(messages)] for messages in conversations])
