"""Does a PPO run say in time that its policy games the reward model? With real models and a true reward that is known.

The world of the demo: simulated people with faults rank replies of a small language model, a reward model learns from
them, PPO maximises its score; the world's hidden utility judges samples on held-out prompts every second iteration.
Few rankings without a KL penalty must make the true reward fall while the score rises (Gao et al. 2022), and the run
must have warned before it has lost 1.0 from its best; with many rankings and the penalty there must be no warning.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from demo import gold, labelers, stages
from training.engine.config import parse_config, to_json
from training.engine.rundir import RunDir, read_jsonl, write_jsonl

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "0,1,2").split(",")]
ROWS = ((36, 0.0), (95, 0.0), (stages.LABELS, stages.KL_COEFFICIENT))
"""Rankings learned from, and beta."""
WEIGHTS = np.array(dataclasses.astuple(gold.WEIGHTS))
LOSS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH")
    out = parser.parse_args().json
    rows = []
    print("rankings  beta  seed    true reward: start  best  last    score: start  last     KL  warned  lost 1.0")
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            items = first_replies(Path(folder), seed)
            for rankings, beta in ROWS:
                rows.append(follow(Path(folder) / f"{rankings}", items, rankings, beta, seed))
                print(line(rows[-1]), flush=True)
    if out:
        out.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def first_replies(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Prompts with four replies of the base model each."""
    asked = stages.questions(seed, 0, stages.TRAINING_PROMPTS)
    prompts = [{"id": str(i), "messages": [{"role": "user", "content": one.text}]} for i, one in enumerate(asked)]
    drawn = start(folder / "first", "sampling", {"completions": 4, "max_new_tokens": 40}, seed, {"prompts": prompts})
    return list(read_jsonl(drawn.artifact / "completions.jsonl"))


def follow(folder: Path, items: list[dict[str, Any]], rankings: int, beta: float, seed: int) -> dict[str, Any]:
    """Rank, learn the reward, maximise it; what became of the true one."""
    people, rng = labelers.population(seed), np.random.default_rng([seed, 77])
    ranked = []
    for number in range(rankings):
        item, person = items[number % len(items)], people[rng.integers(len(people))]
        order = rng.permutation(len(item["completions"]))
        replies = [item["completions"][i]["messages"][0]["content"] for i in order]
        tiers = labelers.rank(person, labelers.utilities(person, item["messages"][-1]["content"], replies), rng)
        ranked.append(
            {
                "item": item["id"],
                "messages": item["messages"],
                "completions": [completion["messages"] for completion in item["completions"]],
                "tiers": [[int(order[i]) for i in tier] for tier in tiers],
                "labeler": person.name,
                "weight": 1.0,
            }
        )
    reward = start(folder / "reward", "reward", stages.REWARD_SETTINGS, seed, {"rankings": ranked})
    held_out = [json.loads(text)["messages"] for text in stages.held_out_replies(seed).splitlines()[:64]]
    prompts = [{"id": row["id"], "messages": row["messages"]} for row in items]
    prompts += [{"id": f"held out {i}", "messages": messages, "split": "eval"} for i, messages in enumerate(held_out)]
    settings = stages.PPO_SETTINGS | {"kl_coef": beta, "reward_path": str(reward.artifact)}
    run = start(folder / "ppo", "ppo", settings | {"sample_every": 2, "samples": 64}, seed, {"prompts": prompts})
    return {"rankings": rankings, "beta": beta, "seed": seed} | outcome(list(read_jsonl(run.events)))


def outcome(events: list[dict[str, Any]]) -> dict[str, Any]:
    """True reward and score by iteration; when the run warned of its KL, and when the true reward had lost LOSS."""
    truth, scores = defaultdict(list), defaultdict(list)
    for event in events:
        if event["type"] == "sample":
            criteria = gold.criteria(event["prompt"][-1]["content"], event["completion"])
            truth[event["step"]].append(float(np.array(dataclasses.astuple(criteria), dtype=float) @ WEIGHTS))
            scores[event["step"]].append(event["score"])
    steps = sorted(truth)
    curve = [mean(truth[step]) for step in steps]
    kl = [e["metrics"]["objective/kl"] for e in events if "objective/kl" in e.get("metrics", {})]
    warned = next((e["step"] for e in events if e["type"] == "warning" and e["message"].startswith("The KL")), None)
    lost = next((step for i, step in enumerate(steps) if max(curve[: i + 1]) - curve[i] > LOSS), None)
    return {
        "steps": steps,
        "truth": [round(value, 3) for value in curve],
        "scores": [round(mean(scores[step]), 3) for step in steps],
        "kl": round(kl[-1], 2),
        "warned": warned,
        "lost": lost,
    }


def start(path: Path, kind: str, settings: dict[str, Any], seed: int, files: dict[str, list[Any]]) -> RunDir:
    """A finished run of the real engine."""
    rundir = RunDir(path)
    rundir.create()
    rundir.write_manifest({f"{name}.jsonl": write_jsonl(rundir.data / f"{name}.jsonl", files[name]) for name in files})
    config = parse_config(kind, {"base": str(stages.MODEL), "seed": seed} | settings)
    rundir.config.write_text(json.dumps(to_json(kind, config)), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "training.engine", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The {kind} run failed: {done.stderr.strip().splitlines()[-1]}")
    return rundir


def line(row: dict[str, Any]) -> str:
    truth, scores = row["truth"], row["scores"]
    return (
        f"{row['rankings']:>8}  {row['beta']:>4}  {row['seed']:>4}    {truth[0]:>18.2f}  {max(truth):>4.2f}  "
        f"{truth[-1]:>4.2f}    {scores[0]:>12.2f}  {scores[-1]:>4.2f}  {row['kl']:>5.1f}  "
        f"{row['warned'] or 'never':>6}  {row['lost'] or 'never':>8}"
    )


if __name__ == "__main__":
    main()
