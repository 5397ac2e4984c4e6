"""Show what the demo's language model writes and how good it is: `python -m demo.show_lm [FOLDER]`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import gold, world

MODEL = Path(__file__).parent / "model"


def sample(folder: Path, prompts: list[str], *, seed: int) -> list[str]:
    """One reply per prompt at temperature 1, by the ordinary transformers path."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer.apply_chat_template(
        [[{"role": "user", "content": prompt}] for prompt in prompts],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    torch.manual_seed(seed)
    out = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        top_k=0,
        top_p=1.0,
        max_new_tokens=40,
    )
    replies: list[str] = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return replies


def show(folder: Path, *, held_out: bool, count: int, seed: int) -> None:
    """Print some replies and the share of each sight of the judges."""
    prompts = [question.text for question in itertools.islice(world.questions(seed=seed, held_out=held_out), count)]
    replies = sample(folder, prompts, seed=seed)
    seen = [gold.criteria(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    print(f"\n{count} questions from {'held-out' if held_out else 'training'} pairs")
    for prompt, reply in list(zip(prompts, replies, strict=True))[:8]:
        print(f"  {prompt}\n    -> {reply}")
    for name in ("right_item", "right_action", "courteous", "rude", "filler", "junk", "cut_off"):
        print(f"  {name:13s} {sum(bool(getattr(one, name)) for one in seen) / count:.3f}")
    print(f"  {'correct':13s} {sum(map(gold.is_correct, prompts, replies)) / count:.3f}")
    print(f"  {'gold':13s} {sum(map(gold.utility, prompts, replies)) / count:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what the demo's language model writes and how good it is.")
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for held_out in (False, True):
        show(args.folder, held_out=held_out, count=args.count, seed=args.seed)


if __name__ == "__main__":
    main()
