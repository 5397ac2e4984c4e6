"""Which items would teach a reward ensemble most: those about which its members disagree (Christiano et al. 2017).

A run that is given `data/candidates.jsonl` (rows {"item", "messages", "completions"}) judges them when it is trained,
and leaves {"item", "gain"} in its artifact. The gain is the variance over members of P(one completion beats another),
for several completions its mean over their pairs: a ranking of K takes as long, and tells as much, as K - 1 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from rewardmodel.ensemble import Ensemble
from rewardmodel.stats.active import disagreement
from rewardmodel.tokens import EncodingError

from .rundir import CANDIDATES, read_jsonl, write_jsonl
from .session import Session

CHUNK = 256  # items encoded at once


def write_gains(session: Session, model: object, folder: Path) -> None:
    """Judge the candidates, if there are any and several members to disagree."""
    path = session.rundir.data / CANDIDATES
    if path.exists() and isinstance(model, Ensemble) and len(model.members) > 1:
        session.stage("judge", "Judging which items would teach most.")
        write_jsonl(folder / CANDIDATES, gains_of(model, list(read_jsonl(path))))


@torch.no_grad()
def gains_of(model: Ensemble, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A gain for every candidate that can be read."""
    for first in range(0, len(rows), CHUNK):
        items, groups = [], []
        for row in rows[first : first + CHUNK]:
            conversations = [[*row["messages"], *completion] for completion in row["completions"]]
            try:
                sequences = model.members[0].encode_together(conversations)
            except EncodingError:
                continue
            if len(sequences) > 1 and all(sequences):
                groups.append(sequences)
                items.append(row["item"])
        of_members = [member.group_scores(groups) for member in model.members]
        for item, *scores in zip(items, *of_members, strict=True):
            table = torch.stack(scores).double().cpu().numpy()
            pairs = list(combinations(range(table.shape[1]), 2))
            yield {"item": item, "gain": float(f"{disagreement(table, pairs).mean():.6g}")}
