"""Chats to token ids for the trainers, on top of the one chat encoder (`rewardmodel.tokens`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewardmodel.tokens import EncodingError, encode_conversation, encode_prompt

from .models import RoleModel
from .rollout import Completion
from .session import EngineError

Messages = Sequence[Mapping[str, str]]


def encode_prompts(
    roles: RoleModel, rows: Sequence[dict[str, Any]], *, max_tokens: int, new_tokens: int
) -> list[list[int]]:
    """Ids of each row's messages, ending where the assistant speaks.

    Old turns are dropped to stay within `max_tokens` and the model's context less `new_tokens`. A last turn that does
    not fit would lose its beginning, which changes the question: that is an error.
    """
    limit = min(max_tokens, (roles.context or 1 << 30) - new_tokens)
    if limit < 1:
        raise EngineError(
            f"{new_tokens} new tokens leave no room in the model's context of {roles.context}: lower them."
        )
    encoded = []
    for row in rows:
        messages = row["messages"]
        try:
            ids = encode_prompt(roles.tokenizer, messages)
            if len(ids) > limit:
                _check_last_turn(roles, row, limit)
                ids = encode_prompt(roles.tokenizer, messages, limit)
        except EncodingError as error:
            raise EngineError(f"Prompt {row.get('id')} cannot be encoded: {error}") from error
        encoded.append(ids)
    return encoded


def encode_training_text(roles: RoleModel, messages: Messages, max_tokens: int) -> tuple[list[int], list[bool]]:
    """Ids of a conversation and the mask of what the assistant wrote."""
    limit = min(max_tokens, roles.context or max_tokens)
    try:
        return encode_conversation(roles.tokenizer, messages, limit)
    except EncodingError as error:
        raise EngineError(f"A conversation cannot be encoded: {error}") from error


def end_ids(roles: RoleModel) -> list[int]:
    """Tokens that end an answer: what the tokenizer, the generation config and the chat template say."""
    generation = getattr(roles.model, "generation_config", None)
    found = {roles.tokenizer.eos_token_id}
    for source in (generation, roles.model.config):
        value = getattr(source, "eos_token_id", None)
        found.update(value if isinstance(value, list) else [value])
    ids, mask = encode_conversation(
        roles.tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
    )
    last = max(i for i, spoken in enumerate(mask) if spoken)
    if ids[last] in roles.tokenizer.all_special_ids:
        found.add(ids[last])
    found.discard(None)
    if not found:
        raise EngineError("The tokenizer names no end-of-text token, so answers would never end: set its eos_token.")
    return sorted(found)


def decode(roles: RoleModel, completion: Completion) -> str:
    """The text of an answer without its end token.

    Other special tokens stay visible: the reward model sees them, so people must too.
    """
    ids = completion.ids[:-1] if completion.finished else completion.ids
    text: str = roles.tokenizer.decode(ids, skip_special_tokens=False)
    return text.strip()


def _check_last_turn(roles: RoleModel, row: dict[str, Any], limit: int) -> None:
    messages = row["messages"]
    start = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=0)
    system = [m for m in messages[:1] if m["role"] == "system" and start > 0]
    length = len(encode_prompt(roles.tokenizer, [*system, *messages[start:]]))
    if length > limit:
        raise EngineError(
            f"Prompt {row.get('id')} has {length} tokens and at most {limit} fit: "
            "raise max_prompt_tokens, lower max_new_tokens, or leave it out."
        )
