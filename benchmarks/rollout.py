"""Sampling: tokens per second of our two engines, of transformers' generate and of its continuous batching.

Same random Llama, prompts of 16 to 32 tokens, 48 new tokens each, sampled at temperature 1 without top-k and top-p; in
one row answers end with a chance of 1 in 20 per token. Counted are the tokens of the answers. Engines alternate; the
best of REPEATS is shown, because what disturbs a measurement only ever makes it slower. `draw` is the time to pick 32
tokens from their logits, of ours and of torch.multinomial.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as our engine is started; read when torch is loaded

import torch

from training.engine.models import RoleModel
from training.engine.rollout import Sampling
from training.engine.rollout.fast import FastEngine
from training.engine.rollout.reference import ReferenceEngine, draw

from ._llamas import END, PAD, SIZES, Size, make_llama, make_tokenizer

Prompts = list[list[int]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--models", default="0.3M;8M;15M", help=f"of {', '.join(SIZES)}, separated by semicolons")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=(16, 32), metavar=("LEAST", "MOST"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"rollout: {options.batch} answers, {options.threads} threads, {options.device}; tokens per second.")
    print(f"  {'':26}{'reference':>12}{'fast':>12}{'generate':>12}{'continuous':>12}{'fast/generate':>15}", flush=True)
    rows = []
    for name in options.models.split(";"):
        for dtype, end_rate in ((torch.float32, 0.0), (torch.float32, 1 / 20), (torch.bfloat16, 0.0)):
            rows.append(measure(name, dtype, end_rate, options))
            print_row(rows[-1])
    draws = [measure_draw(vocabulary, options) for vocabulary in (8000, 32000)]
    for row in draws:
        print(
            "  drawing 32 tokens of {vocabulary}: {ours_us:.0f} us, torch.multinomial {torch_us:.0f} us".format(**row)
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "draws": draws}, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(name: str, dtype: torch.dtype, end_rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of each engine."""
    size = SIZES[name]
    model = make_llama(size, end_rate, dtype).to(options.device)
    roles = RoleModel(model, make_tokenizer(size.vocabulary))
    roles.add_fresh("policy", rank=16, alpha=32)
    prompts = make_prompts(size, options)
    engines: dict[str, Callable[[], int]] = {
        "reference": lambda: run_ours(ReferenceEngine(roles), prompts, options),
        "fast": lambda: run_ours(fast, prompts, options),
        "generate": lambda: run_generate(model, prompts, options),
    }
    fast = FastEngine(roles)
    best = dict.fromkeys(engines, 0.0)
    for repeat in range(options.repeats + 1):  # the first one warms up
        for engine, run in engines.items():
            best[engine] = max(best[engine], timed(run) if repeat else 0.0)
    best["continuous"] = timed(lambda: run_continuous(model, prompts, options))
    row: dict[str, Any] = {"name": name, "dtype": str(dtype).removeprefix("torch."), "end_rate": end_rate}
    return row | {engine: round(rate, 1) for engine, rate in best.items()}


def timed(run: Callable[[], int]) -> float:
    start = time.perf_counter()
    return run() / (time.perf_counter() - start)


def make_prompts(size: Size, options: argparse.Namespace) -> Prompts:
    generator = random.Random(0)
    lengths = [generator.randint(*options.prompt_tokens) for _ in range(options.batch)]
    return [[generator.randrange(4, size.vocabulary) for _ in range(length)] for length in lengths]


def run_ours(engine: FastEngine | ReferenceEngine, prompts: Prompts, options: argparse.Namespace) -> int:
    sampling = Sampling(options.new_tokens, 1.0, (END,))
    answers = engine.generate(prompts, sampling, torch.Generator().manual_seed(0))
    return sum(len(answer.ids) for answer in answers)


SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": END, "pad_token_id": PAD}


@torch.no_grad()
def run_generate(model: Any, prompts: Prompts, options: argparse.Namespace) -> int:
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts], device=options.device)
    answers = model.generate(ids, attention_mask=(ids != PAD).long(), max_new_tokens=options.new_tokens, **SAMPLED)
    return int((answers[:, width:] != PAD).sum())


@torch.no_grad()
def run_continuous(model: Any, prompts: Prompts, options: argparse.Namespace) -> int:
    """transformers' generate_batch: one repeat, because it is slow here."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=options.new_tokens, **SAMPLED)
    answers = model.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)
    return sum(len(answer.generated_tokens) for answer in answers.values())


def measure_draw(vocabulary: int, options: argparse.Namespace) -> dict[str, float]:
    logits, uniforms = torch.randn(32, vocabulary), torch.rand(32)
    ours = min(1 / timed(lambda: draw(logits, uniforms) and 1) for _ in range(50))
    theirs = min(1 / timed(lambda: len(torch.multinomial(logits.softmax(-1), 1)) and 1) for _ in range(20))
    return {"vocabulary": vocabulary, "ours_us": ours * 1e6, "torch_us": theirs * 1e6}


def print_row(row: dict[str, Any]) -> None:
    name = f"{row['name']}, {row['dtype']}{', answers end' if row['end_rate'] else ''}"
    rates = "".join(f"{row[engine]:>12.0f}" for engine in ("reference", "fast", "generate", "continuous"))
    print(f"  {name:<26}{rates}{row['fast'] / row['generate']:>15.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
