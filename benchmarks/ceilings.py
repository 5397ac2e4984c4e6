"""How far PPO is from what this machine can do.

Measured first: how fast memory is copied (bytes read and written), and how fast matrices are multiplied, by torch and
by what our engine multiplies float32 with. Then PPO iterations run as in ppo_vs_trl, and each phase is held against
it: the share of the matmul rate that its necessary multiplications take (model flops utilisation; the adapters' own
work, attention and elementwise operations count as nothing), and for sampling the share of the copying rate that
reading all weights once for each step takes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as our engine is started; read when torch is loaded

import torch

from training.engine.products import times
from training.engine.rundir import read_jsonl

from ._llamas import SIZES as LLAMAS
from ._llamas import make_tokenizer
from ._ppo_sides import PHASES, Spec, run_apart
from .ppo_vs_trl import VALUES, Row, make_spec

SIDE, COPIED = 2048, 1 << 28  # rows and columns of the matrices; bytes


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do: bytes and multiply-adds (two each) per second."""

    copy: float
    torch_float32: float
    float32: float
    bfloat16: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--models", default="0.3M;8M;15M", help="separated by semicolons")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ceilings = measure_ceilings()
    print(
        f"ceilings: {options.threads} threads; copying {ceilings.copy / 1e9:.1f} GB/s; float32 products by torch "
        f"{ceilings.torch_float32 / 1e9:.0f} GFLOP/s, by our engine {ceilings.float32 / 1e9:.0f}; "
        f"bfloat16 {ceilings.bfloat16 / 1e9:.0f}."
    )
    print(f"  {'':22}{'generate: flops':>18}{'bandwidth':>11}{'score: flops':>15}{'train: flops':>15}", flush=True)
    rows = []
    for name in options.models.split(";"):
        for value in VALUES:
            rows.append(measure(name, value, ceilings, options.threads))
            use = rows[-1]["flops_utilisation"]
            print(
                f"  {name + ', value ' + value:<22}{use['generate']:>18.0%}{rows[-1]['bandwidth_utilisation']:>11.0%}"
                f"{use['score']:>15.0%}{use['train']:>15.0%}",
                flush=True,
            )
    if options.json:
        found = {"ceilings": vars(ceilings), "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


@torch.no_grad()
def measure_ceilings() -> Ceilings:
    source, target = torch.ones(2, COPIED // 4)
    a, b = torch.randn(2, SIDE, SIDE)
    half, other = a.bfloat16(), b.bfloat16()
    flops = 2 * SIDE**3
    return Ceilings(
        copy=2 * COPIED / fastest(lambda: target.copy_(source)),
        torch_float32=flops / fastest(lambda: a @ b.T),
        float32=flops / fastest(lambda: times(a, b)),
        bfloat16=flops / fastest(lambda: half @ other.T),
    )


def fastest(work: Callable[[], object], repeats: int = 20) -> float:
    """Seconds of the quickest repeat: what disturbs a measurement only ever makes it slower."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(name: str, value: str, ceilings: Ceilings, threads: int) -> dict[str, Any]:
    """One model's PPO iterations, phase by phase."""
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Row(name, name, changes={"value": value}), Path(folder), iterations=4, threads=threads)
        prompt_tokens = mean_prompt(spec, name) * spec.batch
        result = run_apart("ours", spec)
    needed = flops(name, value, spec, prompt_tokens, result["tokens"])
    seconds = result["phases"]
    trunk, head = weights(name)
    read = spec.new_tokens * 4 * (trunk + head)
    return {
        "name": name,
        "value": value,
        "seconds": {phase: round(seconds[phase], 4) for phase in PHASES},
        "gigaflops": {phase: round(needed[phase] / 1e9, 2) for phase in PHASES},
        "flops_utilisation": {p: round(needed[p] / seconds[p] / ceilings.float32, 4) for p in PHASES},
        "bandwidth_utilisation": round(read / seconds["generate"] / ceilings.copy, 4),
    }


def mean_prompt(spec: Spec, name: str) -> float:
    """Tokens per prompt; a word is a token here."""
    tokenizer = make_tokenizer(LLAMAS[name].vocabulary)
    rows = list(read_jsonl(Path(spec.prompts)))
    chats = [tokenizer.apply_chat_template(r["messages"], add_generation_prompt=True, return_dict=False) for r in rows]
    return sum(map(len, chats)) / len(chats)


def weights(name: str) -> tuple[int, int]:
    """Weights that multiply each token: of the layers, and of the output head."""
    s = LLAMAS[name]
    dim = s.hidden // s.heads
    layer = s.hidden * dim * (2 * s.heads + 2 * s.kv_heads) + 3 * s.hidden * s.intermediate
    return s.layers * layer, s.hidden * s.vocabulary


def flops(name: str, value: str, spec: Spec, prompts: float, answers: float) -> dict[str, float]:
    """Necessary multiplications and additions of an iteration, for so many tokens of prompts and of answers."""
    trunk, head = (2 * count for count in weights(name))  # a multiplication and an addition each
    every = prompts + answers
    apart = value == "adapter"
    return {
        "generate": every * trunk + answers * head,
        "score": (4 if apart else 3) * every * trunk + 2 * answers * head,  # policy, reference, reward, value
        # Forward, and backward to the inputs: the base's weights have no gradient.
        "train": spec.epochs * ((2 if apart else 1) * 2 * every * trunk + 2 * answers * head),
    }


if __name__ == "__main__":
    sys.exit(main())
