"""Training a reward model: ours against TRL's RewardTrainer on the same comparisons, in one run.

Same pairs (hh dialogues whose two versions fit into LENGTH tokens, which is all that TRL trains on), same model (all
weights, float32), same optimizer, learning rates, batches and passes; on the CPU with all of its threads. For K > 2 the
dialogue's own two answers stand beside those of other dialogues, which is all the same to a clock: TRL reads a ranking
as its C(K, 2) pairs, as many of them in an optimizer step as ours, in micro-batches of MICRO_BATCH pairs. TRL's
gradient checkpointing and bfloat16, which would slow it down on a CPU, are off.

Each training has a process of its own, which trains on one batch first, unmeasured. Measured is what comes after
loading and tokenizing: all optimizer steps, with our try whether the model can share beginnings. Memory is what the
process grew by in that time. Each of the REPEATS trains both in turn; a ratio is the median of their ratios, by the
clock, and by the time that all threads computed, which a busy machine disturbs less.

The target is 2 times TRL's pairs per second at K = 2 and 4 times at K = 8.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("SHARED", Path(__file__).resolve().parents[2] / "shared"))
MODEL = Path(os.environ.get("MODEL", SHARED / "models" / "english-6m"))
DATA = Path(os.environ.get("DATA", SHARED / "data" / "hh_harmless_pairs.jsonl"))
PAIRS = int(os.environ.get("PAIRS", 256))
LENGTH = int(os.environ.get("LENGTH", 256))
REPEATS = int(os.environ.get("REPEATS", 3))
SIZES = [int(k) for k in os.environ.get("K", "2,4,8").split(",")]
THREADS = int(os.environ.get("THREADS", os.cpu_count() or 1))
BATCH, MICRO_BATCH, RATE = 16, 16, 1e-4
TARGETS = {2: 2.0, 8: 4.0}

Message = dict[str, str]


@dataclass(frozen=True)
class Ranked:
    """A dialogue and answers to it, best first."""

    prompt: list[Message]
    answers: list[list[Message]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    out = parser.parse_args().json
    if not MODEL.is_dir() or not DATA.is_file():
        print(f"reward_vs_trl: left out, because {MODEL} or {DATA} is not there (set MODEL and DATA).")
        return 0
    print(f"reward_vs_trl: {MODEL.name}, {DATA.name}, {THREADS} threads, median of {REPEATS}.", flush=True)
    print("  K  prompts  pairs    TRL pairs/s  ours pairs/s   ratio  by CPU    TRL memory  ours memory", flush=True)
    rows = []
    for k in SIZES:
        rows.append(compare(k))
        row = rows[-1]
        print(
            f"{k:>3}  {row['prompts']:>7}  {row['pairs']:>5}    {row['trl_pairs_per_second']:>11.1f}"
            f"  {row['ours_pairs_per_second']:>12.1f}  {row['ratio']:>6.2f}  {row['cpu_ratio']:>6.2f}"
            f"    {row['trl_memory_mb']:>7.0f} MB   {row['ours_memory_mb']:>7.0f} MB",
            flush=True,
        )
    if out:
        out.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    missed = [row["k"] for row in rows if row["ratio"] < TARGETS.get(row["k"], 0)]
    print(f"  Below the target at K = {missed}." if missed else "  All targets are met.")
    return 0


def compare(k: int) -> dict[str, Any]:
    """REPEATS of both trainers, each in a process of its own, in alternating order."""
    rankings = make_rankings(k, max(BATCH, PAIRS // comb(k, 2) // BATCH * BATCH))
    runs: dict[str, list[dict[str, float]]] = {"trl": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rankings.json"
        path.write_text(json.dumps([[r.prompt, r.answers] for r in rankings]), encoding="utf-8")
        for repeat in range(REPEATS):
            for name in ("trl", "ours") if repeat % 2 == 0 else ("ours", "trl"):
                runs[name].append(run_apart(name, path, folder))
    pairs = len(rankings) * comb(k, 2)
    row: dict[str, Any] = {"k": k, "prompts": len(rankings), "pairs": pairs}
    for name, measure in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        ratios = [t[measure] / o[measure] for t, o in zip(runs["trl"], runs["ours"], strict=True)]
        row |= {name: round(statistics.median(ratios), 3), f"{name}s": [round(ratio, 3) for ratio in ratios]}
    for name, results in runs.items():
        row[f"{name}_pairs_per_second"] = round(pairs / statistics.median(r["seconds"] for r in results), 2)
        row[f"{name}_memory_mb"] = round(statistics.median(r["memory_mb"] for r in results), 1)
    return row


def run_apart(name: str, path: Path, folder: str) -> dict[str, float]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": folder}
    command = [sys.executable, "-m", "benchmarks.reward_vs_trl", "--child", name, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


# Data


def make_rankings(k: int, prompts: int) -> list[Ranked]:
    """The first dialogues with two versions of an answer, each with k - 2 more answers and in random order.

    Only those of which every version fits into LENGTH tokens: TRL drops the others.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL, model_max_length=1 << 30)  # it may read what is left out then
    dialogues = [d for line in DATA.read_text(encoding="utf-8").splitlines() if (d := read_dialogue(json.loads(line)))]
    generator = random.Random(k)
    others = [answer for dialogue in dialogues for answer in dialogue.answers]
    rankings = []
    for dialogue in dialogues:
        answers = [*dialogue.answers, *generator.sample(others, k - 2)]
        lengths = [len(tokenizer.apply_chat_template([*dialogue.prompt, *a], return_dict=False)) for a in answers]
        if max(lengths) <= LENGTH and len({json.dumps(a) for a in answers}) == k:
            generator.shuffle(answers)
            rankings.append(Ranked(dialogue.prompt, answers))
        if len(rankings) == prompts:
            return rankings
    raise SystemExit(f"{DATA} has only {len(rankings)} dialogues of {LENGTH} tokens, not {prompts}.")


def read_dialogue(row: dict[str, str]) -> Ranked | None:
    """The turns that both versions share, and the last answer of each; None for versions that differ earlier."""
    chosen, rejected = (read_turns(row[name]) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1] or chosen[-1] == rejected[-1] or chosen[-1]["role"] != "assistant":
        return None
    return Ranked(chosen[:-1], [chosen[-1:], rejected[-1:]])


def read_turns(text: str) -> list[Message]:
    parts = re.split(r"\n\n(Human|Assistant): ?", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[role], "content": text} for role, text in zip(parts[::2], parts[1::2], strict=True)]


# The two trainers


def child(name: str, path: Path) -> None:
    """Train once; print seconds and megabytes."""
    import torch

    torch.set_num_threads(THREADS)
    rankings = [Ranked(*row) for row in json.loads(path.read_text(encoding="utf-8"))]
    train = {"ours": train_ours, "trl": train_trl}[name]
    with tempfile.TemporaryDirectory() as folder:
        train(rankings[:BATCH], folder)
        print(json.dumps(train(rankings, folder)))


class Meter:
    """Seconds, of all threads' computing as well, and megabytes that the process grew by, since it was made."""

    def __init__(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._before = pages * resource.getpagesize()
        self._start, self._start_cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._start_cpu
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"seconds": seconds, "cpu_seconds": cpu, "memory_mb": max(0, most - self._before) / 2**20}


def train_ours(rankings: Sequence[Ranked], folder: str) -> dict[str, float]:
    from rewardmodel.config import FitConfig
    from rewardmodel.data import encode_items, group_rows
    from rewardmodel.fit import Fit
    from rewardmodel.model import RewardModel

    rows = [
        {"item": str(i), "messages": r.prompt, "completions": r.answers, "tiers": [[k] for k in range(len(r.answers))]}
        for i, r in enumerate(rankings)
    ]
    model = RewardModel.create(str(MODEL), lora_rank=0, max_length=LENGTH)
    items = encode_items(group_rows(rows), model.encode_together)
    config = FitConfig(
        epochs=1, batch_size=BATCH, micro_batch_size=MICRO_BATCH, learning_rate=RATE, head_learning_rate=RATE,
        centering=0.0, weight_decay=0.0, warmup=0.0, evaluations_per_epoch=1,
    )  # fmt: skip
    meter = Meter()
    fit = Fit(model, items, items[:1], config)  # one evaluation, of one item, cannot be left out
    for _ in fit.run():
        pass
    return meter.read()


def train_trl(rankings: Sequence[Ranked], folder: str) -> dict[str, float]:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    pairs = [
        {"chosen": [*r.prompt, *better], "rejected": [*r.prompt, *worse]}
        for r in rankings
        for better, worse in combinations(r.answers, 2)
    ]
    config = RewardConfig(
        output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, num_train_epochs=1, per_device_train_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=comb(len(rankings[0].answers), 2) * BATCH // MICRO_BATCH, max_length=LENGTH,
        learning_rate=RATE, lr_scheduler_type="cosine", max_grad_norm=1.0,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1, dtype="float32")
    trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(MODEL),
    )
    if len(trainer.train_dataset) != len(pairs):
        raise SystemExit(f"TRL dropped {len(pairs) - len(trainer.train_dataset)} pairs; the comparison is not fair.")
    meter = Meter()
    trainer.train()
    return meter.read()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
