"""Make the demo's language model again: `python -m demo.train_lm` (some minutes on two cores, same seed, same bytes).

A small Llama-architecture transformer with a byte-level BPE tokenizer, trained on the flawed supervised replies of
`demo.world` and the customers' reactions to them, loss on both. Replies that never end are trained without their end
token, so the model learns that fault too. The corpus has no held-out (item, problem) pair; `python -m demo.show_lm`
shows how well the model answers those anyway.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import world

MODEL = Path(__file__).parent / "model"
SYSTEM, USER, ASSISTANT, END, PAD = SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_REPLY_TOKENS = 64


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
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def corpus(seed: int, count: int) -> list[tuple[world.Question, world.Exchange]]:
    """Logged conversations about training pairs only."""
    rng = random.Random(seed)
    asked = itertools.islice(world.questions(seed=seed, held_out=False), count)
    return [(question, world.exchange(rng, question)) for question in asked]


def encode(
    tokenizer: PreTrainedTokenizerFast, rows: list[tuple[world.Question, world.Exchange]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, both (rows, time), padded on the right; label -100 carries no loss."""
    prompts = tokenizer([f"{USER}{question.text}{END}{ASSISTANT}" for question, _ in rows]).input_ids
    ended = [f"{one.reply}{END}{USER}{one.reaction}{END}" if one.ends else one.reply for _, one in rows]
    targets = [ids[:MAX_REPLY_TOKENS] for ids in tokenizer(ended).input_ids]
    time = max(map(len, prompts)) + MAX_REPLY_TOKENS
    ids = torch.full((len(rows), time), tokenizer.pad_token_id)
    labels = torch.full((len(rows), time), -100)
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        ids[row, : len(prompt) + len(target)] = torch.tensor(prompt + target)
        labels[row, len(prompt) : len(prompt) + len(target)] = torch.tensor(target)
    return ids, labels


def train(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace) -> None:
    """AdamW with warm-up and cosine decay; a batch holds rows of about one length, so little of it is padding."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    generator = torch.Generator().manual_seed(args.seed)
    used = (labels != -100).cumsum(1).argmax(1) + 1
    by_length = used.argsort(stable=True)
    for step in range(args.steps):
        share = step / args.steps
        rate = args.learning_rate * min(1.0, (step + 1) / 50) * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        start = int(torch.randint(len(ids) - args.batch_size, (), generator=generator))
        batch = by_length[start : start + args.batch_size]
        time = int(used[batch[-1]])
        x, y = ids[batch, :time], labels[batch, :time]
        # Only the reply's positions go through the vocabulary: most of the cost of a model this small.
        hidden = model.model(x).last_hidden_state[:, :-1]
        wanted = y[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), y[:, 1:][wanted])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == args.steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODEL, help="folder to write the model to")
    parser.add_argument("--rows", type=int, default=40_000, help="supervised replies")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(2)  # another number would round sums differently, and the bytes would differ
    torch.manual_seed(args.seed)
    rows = corpus(args.seed, args.rows)
    tokenizer = train_tokenizer(text for question, one in rows for text in (question.text, one.reply, one.reaction))
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
    ids, labels = encode(tokenizer, rows)
    train(model, ids, labels, args)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
