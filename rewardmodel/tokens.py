"""Messages to token ids: the one chat encoder of reward models, SFT, rollouts and PPO.

The ids are exactly those of the tokenizer's own chat template (or of `FALLBACK_TEMPLATE` where it has none), so a
reward model scores the text that the policy writes. Assistant spans are found in the rendered text, through the
prefixes that the template renders for the first turns, and mapped to tokens by character offsets.

Only the template writes control tokens. Text such as `<|assistant|>` inside a message stays text: before rendering it
gets a `BREAK` behind its first character, and the rendered text is tokenized in pieces between the breaks. Contents
without such text are rendered and tokenized as if there were no such rule.
Limits: a template whose turns are plain words (the fallback's "\n\nHuman:", Llama-2's [INST]) can be imitated by those
words; a control token of a single character cannot be broken; nor is one seen that a tokenizer's normalisation makes
of other characters. Where a break falls, a SentencePiece tokenizer may put its token for a space.

Left out: tools, images, and templates' own `{% generation %}` marks.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
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

BREAK = "\ud800"  # a lone surrogate: no text that can be encoded has one


class EncodingError(ValueError):
    """These messages cannot be encoded by this tokenizer; the message says why."""


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None = None) -> list[int]:
    """Ids of the conversation so far, ending with the template's generation prompt.

    Over `max_tokens` the oldest turns go first (a system message stays); one turn that is still too long loses its
    beginning.
    """
    return _cut_left(tokenizer, _fit_prompt(tokenizer, messages, max_tokens)[1], max_tokens)


def kept_turns(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int) -> list[Message]:
    """The messages that `encode_prompt` keeps within `max_tokens`."""
    return _fit_prompt(tokenizer, messages, max_tokens)[0]


def _fit_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None
) -> tuple[list[Message], list[int]]:
    """The messages without the oldest turns that are too much, and their ids, of which one turn may still be."""
    kept = list(messages)
    while True:
        ids = _tokenize(tokenizer, _render(tokenizer, _disarm(tokenizer, kept), prompt=True))[0]
        shorter = _drop_oldest_turn(kept)
        if max_tokens is None or len(ids) <= max_tokens or shorter is None:
            return kept, ids
        kept = shorter


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None = None
) -> tuple[list[int], list[bool]]:
    """Ids of a whole conversation, and a mask that is True on what the assistant wrote, its end token included.

    Over `max_tokens` the oldest turns go first (a system message stays); the end of the last answer always stays.
    """
    kept = _disarm(tokenizer, messages)
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
    return _encode_scored(tokenizer, messages, max_tokens)[0]


def encode_together(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]], max_tokens: int | None = None
) -> list[list[int]]:
    """Ids of conversations that were compared, each as by `encode_scored`, but cut alike.

    People saw all answers behind the same prompt. So over `max_tokens` all lose their oldest turns together, then the
    same tokens of what they have in common; only an answer that is too long by itself loses more.
    """
    whole = [_encode_scored(tokenizer, messages, None) for messages in conversations]
    over = max((len(ids) for ids, _ in whole), default=0) - (max_tokens or 0)
    if max_tokens is None or over <= 0:
        return [ids for ids, _ in whole]
    shorter = [_drop_oldest_turn(list(messages)) for messages in conversations]
    if None not in shorter:
        return encode_together(tokenizer, [messages for messages in shorter if messages], max_tokens)
    cut = min(over, common_beginning([ids for ids, _ in whole]), *(max(0, answer - 1) for _, answer in whole))
    alike = [_cut_left(tokenizer, ids, len(ids) - cut) for ids, _ in whole]
    return [_cut_left(tokenizer, ids, max_tokens) for ids in alike]


def _encode_scored(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int | None) -> tuple[list[int], int]:
    """The ids, and where the last answer begins in them."""
    ids, mask = encode_conversation(tokenizer, messages, max_tokens)
    if not (messages and messages[-1]["role"] == "assistant" and any(mask)):
        return ids, len(ids)
    end = len(mask) - mask[::-1].index(True)
    before = mask[:end][::-1]
    return ids[:end], end - before.index(False) if False in before else 0


def common_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with; each keeps one token at least behind it."""
    most = min(map(len, sequences)) - 1
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))  # as far as they agree, all between them do
    return next((i for i in range(most) if first[i] != last[i]), most)


def split_turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Each answer with what was said since the one before; what follows the last answer is in no turn."""
    turns: list[list[Message]] = [[]]
    for message in messages:
        turns[-1].append(message)
        if message["role"] == "assistant":
            turns.append([])
    return turns[:-1]


def pad_id(tokenizer: Tokenizer) -> int:
    """The id to fill batches with; attention masks, not this id, decide what is read."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def _disarm(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Message]:
    """The messages, with breaks in the control tokens that their contents spell."""
    tokens, starts = _control_patterns(tokenizer)
    rows: list[Message] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise EncodingError("A message needs a role and a content, both text.")
        if tokens.search(content):
            content = starts.sub(rf"\g<0>{BREAK}", content)
        rows.append({"role": role, "content": content})
    return rows


@lru_cache(maxsize=4)
def _control_patterns(tokenizer: Tokenizer) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds a control token in a text, and the first character of each, those that overlap included.

    Control tokens are the special ones, and other added ones (no words, no spaces) that the template puts around turns.
    """
    turns = _sample_of_turns(tokenizer)
    control = [
        re.escape(token.content)
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content) > 1
        and (token.special or (token.content in turns and re.search(r"[^\w\s]", token.content)))
    ]
    either = "|".join(control) or "(?!)"  # which is found nowhere
    return re.compile(either), re.compile(f"(?={either}).", re.DOTALL)


def _sample_of_turns(tokenizer: Tokenizer) -> str:
    """Turns of all roles that the template takes, around contents that say nothing."""
    user, assistant, system = ({"role": role, "content": "a"} for role in ("user", "assistant", "system"))
    for messages in ([system, user, assistant, user], [user, assistant, user], [user]):
        try:
            return _render(tokenizer, messages, prompt=True)
        except EncodingError:
            continue
    return ""


def _render(tokenizer: Tokenizer, messages: Sequence[Message], *, prompt: bool = False) -> str:
    template = None if tokenizer.chat_template else FALLBACK_TEMPLATE
    rows = [dict(message) for message in messages]
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
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    position = 0
    for piece in text.split(BREAK):
        encoded = tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids += encoded["input_ids"]
        offsets += [(position + a, position + b) for a, b in encoded["offset_mapping"]]
        position += len(piece) + len(BREAK)
    return ids, offsets


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
