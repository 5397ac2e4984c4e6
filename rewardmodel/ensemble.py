"""Several reward models on one base: their mean is the score, their deviation says where not to trust it.

Each member has an adapter and a head of its own and is trained on a bootstrap sample of the prompts, watched on those
that the sample left out, about 1/e of all (Christiano et al. 2017). With z the normalised scores of the members,

    score = (mean z - pessimism * deviation z - mean) / sd

where the last two bring the score to mean 0 and deviation 1 on the training completions. A saved ensemble is its first
member's folder with the others in `member_1`, `member_2`, ... and `ensemble.json`; so a single model is one of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from rewardmodel.model import RewardModel, RewardModelError
from rewardmodel.reading import Groups
from rewardmodel.tokens import Message

ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Combination:
    """How members' scores become one."""

    members: int = 1
    pessimism: float = 0.0
    mean: float = 0.0
    sd: float = 1.0

    def __call__(self, scores: Tensor) -> Tensor:
        """(members, rows), each normalised by its own head, to (rows,)."""
        return (self.cautious(scores) - self.mean) / self.sd

    def cautious(self, scores: Tensor) -> Tensor:
        """Before the last normalisation."""
        return scores.mean(0) - self.pessimism * deviation(scores)


def deviation(scores: Tensor) -> Tensor:
    """How far members (members, rows) are apart: (rows,)."""
    return scores.std(0, correction=0)


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
    """Trained members on one base. Make one with `EnsembleFit`, or `load` one."""

    def __init__(self, members: Sequence[RewardModel], combination: Combination) -> None:
        self.members, self.combination = list(members), combination

    @classmethod
    def load(cls, folder: Path | str, *, base: str = "", device: torch.device | str = "cpu") -> Ensemble:
        """A saved ensemble, or a single saved model as an ensemble of one."""
        folder = Path(folder)
        combination = read_combination(folder)
        first = RewardModel.load(folder, base=base, device=device)
        others = member_folders(folder, combination.members)[1:]
        return cls([first, *(first.load_sibling(n, part) for n, part in enumerate(others, start=1))], combination)

    def save(self, folder: Path) -> None:
        """Write the members into an existing folder, the same bytes for the same weights."""
        for member, part in zip(self.members, member_folders(folder, len(self.members)), strict=True):
            part.mkdir(exist_ok=True)
            member.save(part)
        text = json.dumps(asdict(self.combination), indent=1, sort_keys=True)
        (folder / ENSEMBLE).write_text(text + "\n", encoding="utf-8")

    @torch.no_grad()
    def member_scores(self, groups: Groups) -> list[Tensor]:
        """Normalised scores (members, sequences) of each group."""
        of_members = [member.group_scores(groups, member.head) for member in self.members]
        return [torch.stack(scores) for scores in zip(*of_members, strict=True)]

    def group_scores(self, groups: Groups) -> list[Tensor]:
        """Scores of each group's sequences, before the last normalisation, in logits like a single model's raw ones."""
        scale = torch.stack([member.head.sd for member in self.members]).mean()
        return [scale * self.combination.cautious(scores) for scores in self.member_scores(groups)]

    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Normalised scores of whole conversations."""
        if not conversations:
            return []
        (scores,) = self.member_scores([[self.members[0].encode(messages) for messages in conversations]])
        return [float(score) for score in self.combination(scores)]

    def disagreement(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """How far the members' scores of whole conversations are apart."""
        if not conversations:
            return []
        (scores,) = self.member_scores([[self.members[0].encode(messages) for messages in conversations]])
        return [float(apart) for apart in deviation(scores)]
