"""PPO: ours against the PPOTrainer of TRL 1.12.0, the last release that has one, on the same task in one run.

Same model (random Llamas from a config, any further one by --model), tokenizer, prompts, lengths, reward model, batch
of 32, 4 mini-batches, 4 epochs, learning rates, threads. Both train LoRA adapters of rank 16 on all linear layers;
TRL's value model, as its documentation has it, is a whole model of which all weights learn. Its gradient checkpointing,
which would slow it down, is off. Answers are of 48 tokens, because the end token is never drawn (a property of the
weights), except in the row "answers end". Rows: our value function as an adapter of its own, and as a head on the
policy's trunk; bfloat16 weights; TRL training all weights of the policy; and RLOO, which has no value function,
against the RLOOTrainer of the TRL that is installed beside us.

Each training has a process of its own and an unmeasured first iteration; TRL and ours alternate. A ratio is the median
of the repeats' ratios, by the clock, and by the time that all threads computed, which a busy machine disturbs less.
Memory is the peak above what the process had, with its libraries in use, before it loaded a model. Both run with
GOMP_SPINCOUNT=2000, as our engine is always started: threads that wait for each other give up soon, which a busy
neighbour would punish otherwise.

The targets are 3 times TRL's episodes per second and 60 % of its memory. `--learning` shows that the speed does not
cost what is learned. TRL 1.12.0 is installed into var/ on its first use, everything else is the same on both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import _ppo_learning
from ._ppo_sides import PHASES, Spec, run_apart

ROOT = Path(__file__).resolve().parents[1]
TRL = Path(os.environ.get("PREFLOOP_VAR", ROOT / "var")) / "trl-1.12.0"
TARGET_RATIO, TARGET_MEMORY = 3.0, 0.6
VALUES = ("adapter", "head")  # our value functions
WORDS = (14, 30)  # prompts have so many words


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: a model, how its answers end, and what both sides are told."""

    name: str
    model: str
    end_rate: float = 0.0
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


ROWS = [
    Row("0.3M", "0.3M"),
    Row("8M", "8M"),
    Row("15M", "15M"),
    Row("8M, answers end", "8M", end_rate=1 / 20),
    Row("8M, bfloat16", "8M", changes={"dtype": "bfloat16"}),
    Row("8M, TRL trains all weights", "8M", changes={"full": True}),
    Row("8M, RLOO, 2 answers to a prompt", "8M", changes={"completions": 2}),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a base model on the disk, as a row")
    parser.add_argument("--rows", help="only these, separated by semicolons")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3, help="per training, the first of them unmeasured")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--learning", action="store_true", help="compare what is learned, too")
    options = parser.parse_args()
    if not (TRL.is_dir() or install_trl()):
        print("ppo_vs_trl: left out, because TRL 1.12.0 cannot be installed here.")
        return 0
    rows = [*ROWS, *(Row(path.name, str(path.resolve())) for path in options.model)]
    if options.rows:
        rows = [row for row in rows if row.name in options.rows.split(";")]
    print(f"ppo_vs_trl: {options.threads} threads, median of {options.repeats}; seconds per iteration.", flush=True)
    print(f"{'':36}TRL eps/s  ours   ratio  by CPU    TRL gen+score+train   ours gen+score+train  memory", flush=True)
    results = []
    for row in rows:
        for result in measure(row, options.repeats, options.iterations, options.threads):
            results.append(result)
            print_row(result)
    learned = _ppo_learning.compare(TRL, VALUES, options.threads) if options.learning else []
    if options.json:
        found = {"models": results, "learning": learned}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    slow = [r["name"] for r in results if r["ratio"] < TARGET_RATIO]
    large = [r["name"] for r in results if r["memory_share"] > TARGET_MEMORY]
    print(
        f"  Below {TARGET_RATIO:g} times: {slow or 'none'}; above {TARGET_MEMORY:.0%} of the memory: {large or 'none'}."
    )
    return 0


def install_trl() -> bool:
    """Put TRL 1.12.0, and nothing it needs, into a folder of its own: what it needs is here in the pinned versions."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(TRL), "trl==1.12.0"]
    return subprocess.run(command).returncode == 0


def measure(row: Row, repeats: int, iterations: int, threads: int) -> list[dict[str, Any]]:
    """One result per way to compute values; TRL's runs are the same for all of them."""
    rloo = row.changes.get("completions", 1) > 1
    ways = VALUES[:1] if rloo else VALUES  # RLOO has no value function
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("trl", *ways)}
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(row, Path(folder), iterations, threads)
        for repeat in range(repeats):
            for name in sorted(runs, reverse=repeat % 2 == 0):
                if name == "trl":
                    runs[name].append(run_apart("rloo", spec) if rloo else run_apart("trl", spec, TRL))
                else:
                    runs[name].append(run_apart("ours", dataclasses.replace(spec, value=name)))
    theirs = runs.pop("trl")
    return [
        summarize(row.name if value == "adapter" else f"{row.name}, value {value}", spec.batch, theirs, ours)
        for value, ours in runs.items()
    ]


def make_spec(row: Row, folder: Path, iterations: int, threads: int) -> Spec:
    """The models and prompts of a row, in `folder`."""
    from . import _llamas as llamas

    base = Path(row.model)
    if row.model in llamas.SIZES:
        base = llamas.save_base(folder / "base", llamas.SIZES[row.model], row.end_rate)
    reward = llamas.save_reward(folder / "reward", base)
    classifier = llamas.merge_reward(folder / "classifier", reward)
    generator, vocabulary = random.Random(0), llamas.words_of(base)
    prompts = folder / "prompts.jsonl"
    with prompts.open("w", encoding="utf-8") as file:
        for i in range(128):
            text = " ".join(generator.choices(vocabulary, k=generator.randrange(*WORDS)))
            file.write(json.dumps({"id": str(i), "messages": [{"role": "user", "content": text}]}) + "\n")
    return Spec(
        base=str(base),
        reward=str(reward),
        classifier=str(classifier),
        prompts=str(prompts),
        iterations=iterations,
        threads=threads,
        **row.changes,
    )


def summarize(name: str, batch: int, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats; ratios are medians of the ratios."""
    result: dict[str, Any] = {"name": name}
    for key, measure in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        ratios = [t[measure] / o[measure] for t, o in zip(theirs, ours, strict=True)]
        result |= {key: round(statistics.median(ratios), 3), f"{key}s": [round(ratio, 3) for ratio in ratios]}
    for side, runs in (("trl", theirs), ("ours", ours)):
        phases = {phase: statistics.median(run["phases"][phase] for run in runs) for phase in PHASES}
        tokens = statistics.median(run["tokens"] for run in runs)
        result[side] = {
            "episodes_per_second": round(batch / statistics.median(run["seconds"] for run in runs), 3),
            "tokens": round(tokens, 1),
            "seconds": {phase: round(seconds, 4) for phase, seconds in phases.items()},
            "tokens_per_second": {phase: round(tokens / seconds, 1) for phase, seconds in phases.items()},
            "memory_mb": round(statistics.median(run["memory_mb"] for run in runs), 1),
        }
    result["memory_share"] = round(result["ours"]["memory_mb"] / result["trl"]["memory_mb"], 3)
    return result


def print_row(result: dict[str, Any]) -> None:
    trl, ours = result["trl"], result["ours"]
    seconds = ["+".join(f"{side['seconds'][phase]:.2f}" for phase in PHASES) for side in (trl, ours)]
    print(
        f"  {result['name']:<34}{trl['episodes_per_second']:>8.1f}{ours['episodes_per_second']:>7.1f}"
        f"{result['ratio']:>8.2f}{result['cpu_ratio']:>8.2f}{seconds[0]:>23}{seconds[1]:>23}"
        f"{result['memory_share']:>7.0%} of {trl['memory_mb']:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
