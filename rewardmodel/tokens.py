"""Messages to token ids: the one chat encoder of reward models, SFT, rollouts and PPO.

The ids are exactly those of the tokenizer's own chat template (or of `FALLBACK_TEMPLATE` where it has none), so a
reward model scores the text that the policy writes. Assistant spans are found in the rendered text, through the
prefixes that the template renders for the first turns, and mapped to tokens by character offsets.
Left out: tools, images, and templates' own `{% generation %}` marks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, str]
Tokenizer = Any  # transformers.PreTrainedTokenizerBase; not imported here, which keeps this module light

# For tokenizers without a template: base models, and encoders (BERT's [CLS] and [SEP] take the outer roles).
FALLBACK_TEMPLATE = (
    "{{ bos_token or cls_token or '' }}"
    "{% for m in messages %}"
    "{{ '\n\n' + {'user': 'Human', 'assistant': 'Assistant'}.get(m['role'], m['role'] | capitalize) + ': ' }}"
    "{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token or sep_token or '' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


class EncodingError(ValueError):
    """These messages cannot be encoded by this tokenizer; the message says why."""


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None = None) -> list[int]:
    """Ids of the conversation so far, ending with the template's generation prompt.

    Over `max_tokens` the oldest turns go first (a system message stays); one turn that is still too long loses its
    beginning.
    """
    kept = list(messages)
    while True:
        ids = _tokenize(tokenizer, _render(tokenizer, kept, prompt=True))[0]
        shorter = _drop_oldest_turn(kept)
        if max_tokens is None or len(ids) <= max_tokens or shorter is None:
            return _cut_left(tokenizer, ids, max_tokens)
        kept = shorter


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None = None
) -> tuple[list[int], list[bool]]:
    """Ids of a whole conversation, and a mask that is True on what the assistant wrote, its end token included.

    Over `max_tokens` the oldest turns go first (a system message stays); the end of the last answer always stays.
    """
    kept = list(messages)
    while True:
        text = _render(tokenizer, kept)
        ids, offsets = _tokenize(tokenizer, text)
        shorter = _drop_oldest_turn(kept)
        if max_tokens is None or len(ids) <= max_tokens or shorter is None:
            mask = _mask_spans(offsets, _assistant_spans(tokenizer, kept, text))
            return _cut_left(tokenizer, ids, max_tokens), _cut_left(tokenizer, mask, max_tokens, ids)
        kept = shorter


def encode_scored(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None = None) -> list[int]:
    """Ids of a conversation as a reward model reads it: as a policy's finished answer, ending with the end token.

    Some templates write a line break behind the end token. A sampled completion has none, so it is cut here.
    """
    ids, mask = encode_conversation(tokenizer, messages, max_tokens)
    if messages and messages[-1]["role"] == "assistant" and any(mask):
        return ids[: len(mask) - mask[::-1].index(True)]
    return ids


def pad_id(tokenizer: Tokenizer) -> int:
    """The id to fill batches with; attention masks, not this id, decide what is read."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def _render(tokenizer: Tokenizer, messages: Sequence[Message], *, prompt: bool = False) -> str:
    template = None if tokenizer.chat_template else FALLBACK_TEMPLATE
    rows = []
    for message in messages:
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise EncodingError("A message needs a role and a content, both text.")
        rows.append({"role": message["role"], "content": message["content"]})
    try:
        # A batch of one: alone, an empty conversation (an answer to nothing) would be refused.
        texts = tokenizer.apply_chat_template(
            [rows], chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except Exception as error:  # templates are programs: they raise jinja errors, and any other of their own making
        raise EncodingError(f"The chat template refuses these messages: {error}") from error
    return str(texts[0])


def _tokenize(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids, and for each token the characters [start, end) that it stands for."""
    if not tokenizer.is_fast:
        raise EncodingError("This tokenizer gives no character offsets; a tokenizer.json is needed.")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]


def _assistant_spans(tokenizer: Tokenizer, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
    """Character ranges of `text` that the assistant wrote, each with its end token and without space behind it."""
    spans: list[tuple[int, int]] = []
    cursor = 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _prefix_end(tokenizer, messages[:i], text, prompt=True)
        end = _prefix_end(tokenizer, messages[: i + 1], text, prompt=False)
        if start is None or end is None or not cursor <= start < end:
            start, end = _search(tokenizer, message["content"], text, cursor)
        end = start + len(text[start:end].rstrip())
        spans.append((start, end))
        cursor = end
    return spans


def _prefix_end(tokenizer: Tokenizer, messages: Sequence[Message], text: str, *, prompt: bool) -> int | None:
    """Length of the rendering of the first messages where it is a prefix of the whole rendering."""
    try:
        prefix = _render(tokenizer, messages, prompt=prompt)
    except EncodingError:  # e.g. a template that wants a user message first
        return None
    return len(prefix) if text.startswith(prefix) else None


def _search(tokenizer: Tokenizer, content: str, text: str, cursor: int) -> tuple[int, int]:
    """For templates that render earlier turns differently later (hidden reasoning, one end token for all)."""
    start = text.find(content.strip(), cursor)
    if start < 0:
        raise EncodingError("The chat template changes the assistant's words, so they cannot be found in its text.")
    end = start + len(content.strip())
    for token in sorted(tokenizer.all_special_tokens, key=len, reverse=True):
        after = len(text[end:]) - len(text[end:].lstrip())
        if text.startswith(token, end + after):
            return start, end + after + len(token)
    return start, end


def _mask_spans(offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """True on the tokens from the first to the last one that shares a character with a span.

    Contiguous by construction: tokenizers may give a token of pure space an empty range.
    """
    mask = [False] * len(offsets)
    starts, ends = [a for a, _ in offsets], [b for _, b in offsets]
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        mask[first:last] = [True] * (last - first)
    return mask


def _drop_oldest_turn(messages: list[Message]) -> list[Message] | None:
    """The messages without the oldest turn (up to the next user message), or None when one turn is left."""
    head = 1 if messages and messages[0]["role"] == "system" else 0
    for i in range(head + 1, len(messages)):
        if messages[i]["role"] == "user":
            return [*messages[:head], *messages[i:]]
    return None


def _cut_left(
    tokenizer: Tokenizer, values: list[Any], max_tokens: int | None, ids: list[int] | None = None
) -> list[Any]:
    """The last `max_tokens` values; the first one (begin-of-text) is kept when it is one."""
    if max_tokens is None or len(values) <= max_tokens:
        return values
    first = (ids or values)[0]
    keep_first = first in (tokenizer.bos_token_id, tokenizer.cls_token_id) and max_tokens > 1
    return [values[0], *values[1 - max_tokens :]] if keep_first else values[-max_tokens:]
