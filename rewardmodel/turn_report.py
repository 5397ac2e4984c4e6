"""What single turns add to the scores of held-out conversations, for people to read. No torch.

Beside `report`, for models that reward turns (see `trajectory`): a few comparisons with every turn of both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rewardmodel.data import Item
from rewardmodel.report import Pair, pairs_of, shown_text
from rewardmodel.tokens import Message, split_turns

EXAMPLES = 2  # of each sort
TURNS_SHOWN = 30
TURN_CHARACTERS = 400

TurnRewards = Callable[[Sequence[Sequence[Message]]], list[list[float]]]


def turn_examples(
    items: Sequence[Item], scores: Sequence[Sequence[float]], turn_rewards: TurnRewards
) -> list[dict[str, Any]]:
    """The comparisons on which the model was most wrong, least sure and most right, each item once.

    {"sort", "labeler", "probability", "chosen", "rejected"}; a side is {"score", "turns": [{"said", "answer",
    "reward"}], "left_out"}.
    """
    found = []
    for sort, pair in _telling(pairs_of(items, scores)):
        sides = [[*pair.item.messages, *pair.item.completions[k]] for k in (pair.chosen, pair.rejected)]
        chosen, rejected = map(_side, sides, turn_rewards(sides))
        about = {"sort": sort, "labeler": pair.labeler, "probability": pair.probability}
        found.append(about | {"chosen": chosen, "rejected": rejected})
    return found


def _telling(pairs: Iterable[Pair]) -> list[tuple[str, Pair]]:
    """At most `EXAMPLES` of each sort."""
    ordered = sorted({pair.item.id: pair for pair in pairs}.values(), key=lambda pair: pair.gap)
    wrong = [pair for pair in ordered if pair.gap < 0][:EXAMPLES]
    right = [pair for pair in reversed(ordered) if pair.gap > 0][:EXAMPLES]
    shown = {pair.item.id for pair in (*wrong, *right)}
    unsure = sorted((pair for pair in ordered if pair.item.id not in shown), key=lambda pair: abs(pair.gap))[:EXAMPLES]
    return [(sort, pair) for sort, some in (("wrong", wrong), ("unsure", unsure), ("right", right)) for pair in some]


def _side(messages: Sequence[Message], rewards: Sequence[float]) -> dict[str, Any]:
    turns = [
        {
            "said": shown_text(turn[:-1], TURN_CHARACTERS),
            "answer": shown_text(turn[-1:], TURN_CHARACTERS),
            "reward": reward,
        }
        for turn, reward in zip(split_turns(messages), rewards, strict=True)
    ]
    return {"score": sum(rewards), "turns": turns[:TURNS_SHOWN], "left_out": len(turns[TURNS_SHOWN:])}
