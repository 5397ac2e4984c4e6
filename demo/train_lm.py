"""Make the demo's language model again: `python -m demo.train_lm` (some minutes on two cores, same seed, same bytes).

A small Llama-architecture transformer with a byte-level BPE tokenizer, trained on the flawed supervised replies of
`demo.world` and the customers' reactions to them, loss on both. A first lesson of plain replies has little to teach but
whether a reply is about the item in question: beside all else, and with larger steps, that is learned late or never.
Replies that never end are trained without their end token, so the model learns that fault too. The corpus has no
held-out (item, problem) pair; `python -m demo.show_lm` shows how well the model answers those anyway.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import world

MODEL = Path(__file__).parent / "model"
# A turn ends by handing over: <|assistant|> ends what the customer wrote, <|user|> ends what the assistant wrote. So
# the state behind a reply is the one from which the customer's reaction is foreseen, and reward models read that state.
PAD, USER, ASSISTANT = SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|user|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|assistant|>' }}{% endif %}{% endfor %}"
)
MAX_TARGET_TOKENS = 72
REACTION_WEIGHT = 4.0

Row = tuple[world.Question, world.Exchange]


class Lesson(NamedTuple):
    steps: int
    batch_size: int
    learning_rate: float


PLAIN, WHOLE = Lesson(2000, 32, 1.2e-3), Lesson(1600, 64, 1.5e-3)


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which each word of the world is one token, and any other text still has tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=4096,
            min_frequency=2,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=USER,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def corpus(seed: int, count: int) -> list[Row]:
    """Logged conversations about training pairs only."""
    rng = random.Random(seed)
    asked = itertools.islice(world.questions(seed=seed, held_out=False), count)
    return [(question, world.exchange(rng, question)) for question in asked]


def in_either_order(seed: int, one: world.Exchange) -> str:
    """The whole reaction. In either order, so that the state behind the reply foresees both parts."""
    return " ".join(filter(None, random.Random(f"{seed} {one}").sample((one.to_content, one.to_tone), 2)))


class Batches(NamedTuple):
    """Rows padded on the right, sorted by length, all (rows, time). `weights` is 0 where there is no loss."""

    ids: torch.Tensor
    weights: torch.Tensor
    lengths: torch.Tensor
    """(rows,)"""


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[Row], seed: int) -> Batches:
    """Prompts without loss, replies with weight 1, reactions with `REACTION_WEIGHT`."""
    prompts = tokenizer([question.text + ASSISTANT for question, _ in rows]).input_ids
    replies = tokenizer([one.reply + USER if one.ends else one.reply for _, one in rows]).input_ids
    reactions = tokenizer([one.ends * (in_either_order(seed, one) + ASSISTANT) for _, one in rows]).input_ids
    texts = []
    for prompt, reply, reaction in zip(prompts, replies, reactions, strict=True):
        ids = prompt + (reply + reaction)[:MAX_TARGET_TOKENS]
        weights = [0.0] * len(prompt) + [1.0] * len(reply) + [REACTION_WEIGHT] * len(reaction)
        texts.append((ids, weights[: len(ids)]))
    texts.sort(key=lambda text: len(text[0]))
    time = len(texts[-1][0])
    return Batches(
        torch.tensor([ids + [tokenizer.pad_token_id] * (time - len(ids)) for ids, _ in texts]),
        torch.tensor([weights + [0.0] * (time - len(weights)) for _, weights in texts]),
        torch.tensor([len(ids) for ids, _ in texts]),
    )


def train(model: LlamaForCausalLM, data: Batches, lesson: Lesson, seed: int) -> None:
    """AdamW; the learning rate warms up, stays, and falls in the last fifth.

    A batch holds rows of about one length, so little of it is padding.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lesson.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    for step in range(lesson.steps):
        factor = min(1.0, (step + 1) / 50, 5 * (lesson.steps - step) / lesson.steps)
        optimizer.param_groups[0]["lr"] = lesson.learning_rate * factor
        start = int(torch.randint(len(data.ids) - lesson.batch_size, (), generator=generator))
        rows, time = slice(start, start + lesson.batch_size), int(data.lengths[start + lesson.batch_size - 1])
        x, weights = data.ids[rows, :time], data.weights[rows, 1:time]
        # Only the positions with a loss go through the vocabulary: most of the cost of a model this small.
        wanted = weights > 0
        logits = model.lm_head(model.model(x).last_hidden_state[:, :-1][wanted])
        losses = torch.nn.functional.cross_entropy(logits, x[:, 1:][wanted], reduction="none")
        torch.autograd.backward((losses * weights[wanted]).sum() / weights.sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == lesson.steps - 1:
            print(f"step {step:5d}  loss of replies {losses[weights[wanted] == 1].mean().item():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODEL, help="folder to write the model to")
    parser.add_argument("--rows", type=int, default=40_000, help="supervised replies")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(2)  # another number would round sums differently, and the bytes would differ
    torch.manual_seed(args.seed)
    rows = corpus(args.seed, args.rows)
    tokenizer = train_tokenizer(
        text for question, one in rows for text in (question.text, one.reply, one.to_content, one.to_tone)
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden,
        intermediate_size=2 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {len(rows)} replies")
    rng = random.Random(args.seed)
    plain = [world.plain_exchange(rng, question) for question, _ in rows]
    for lesson, lesson_rows in ((PLAIN, plain), (WHOLE, rows)):
        train(model, encode(tokenizer, lesson_rows, args.seed), lesson, args.seed)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
