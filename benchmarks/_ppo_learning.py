"""What PPO learns, ours and TRL's: the reward after equal episodes and after equal seconds, for three seeds.

The base is a random Llama of 0.3M weights that ends answers with a chance of 1 in 12 per token. The preference is
planted: of two answers, the one with the larger share of favoured words (every tenth of the vocabulary) is better. A
reward model learns it from rankings of the base's own answers, and both sides load that reward model. Rewards are means
over the answers that a side trained on in its last WINDOW iterations, so of the policies of that time, in the reward
model's units: 0 and 1 are mean and deviation of the base's answers.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._ppo_sides import Spec, run_apart

ITERATIONS, WINDOW, SEEDS = 40, 5, 3
RATE = 1e-3
PROMPTS, ANSWERS = 256, 4


def compare(trl: Path, values: Sequence[str], threads: int, repeats: int = SEEDS) -> list[dict[str, Any]]:
    """Curves of TRL and of our value functions, printed and returned."""
    with tempfile.TemporaryDirectory() as folder:
        spec, shift = prepare(Path(folder), threads)
        curves: dict[str, list[dict[str, Any]]] = {name: [] for name in ("trl", *values)}
        for seed in range(repeats):
            for name, runs in curves.items():
                chosen = dataclasses.replace(spec, seed=seed, value="adapter" if name == "trl" else name)
                runs.append(run_apart("trl" if name == "trl" else "ours", chosen, trl))
    for run in curves["trl"]:  # its head has no bias
        run["scores"] = [score + shift for score in run["scores"]]
    seconds = min(run["times"][-1] for runs in curves.values() for run in runs)
    print(f"  Learning, {repeats} seeds: reward after {ITERATIONS * spec.batch} episodes, and after {seconds:.0f} s:")
    results = []
    for name, runs in curves.items():
        rows = {
            "start": [run["scores"][0] for run in runs],
            "after_episodes": [mean_before(run, run["times"][-1]) for run in runs],
            "after_seconds": [mean_before(run, seconds) for run in runs],
        }
        label = "TRL" if name == "trl" else f"ours, value {name}"
        results.append({"name": label, "seconds": round(seconds, 1)} | rows)
        texts = (f"{key} {statistics.mean(row):6.2f} (sd {statistics.stdev(row):.2f})" for key, row in rows.items())
        print(f"    {label:<20}{', '.join(texts)}", flush=True)
    return results


def mean_before(run: dict[str, Any], seconds: float) -> float:
    """Mean reward of the last WINDOW iterations that ended within so many seconds."""
    done = [score for score, time in zip(run["scores"], run["times"], strict=True) if time <= seconds]
    return float(statistics.mean(done[-WINDOW:]))


def prepare(folder: Path, threads: int) -> tuple[Spec, float]:
    """Base, reward model and prompts; and what TRL's version of the reward model leaves out."""
    import torch

    from rewardmodel.model import RewardModel

    from . import _llamas as llamas

    torch.set_num_threads(threads)
    base = llamas.save_base(folder / "base", llamas.SIZES["0.3M"], end_rate=1 / 12)
    words, generator = llamas.words_of(base), random.Random(0)
    rows = [
        {"id": str(i), "messages": [{"role": "user", "content": " ".join(generator.choices(words, k=8))}]}
        for i in range(PROMPTS)
    ]
    reward = llamas.write_reward(folder / "reward", learn_preference(base, rows))
    head = RewardModel.load(reward).head
    shift = float((head.bias - head.mean) / head.sd)
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = Spec(
        base=str(base), reward=str(reward), classifier=str(llamas.merge_reward(folder / "classifier", reward)),
        prompts=str(prompts), iterations=ITERATIONS, threads=threads, learning_rate=RATE, value_learning_rate=RATE,
    )  # fmt: skip
    return spec, shift


def learn_preference(base: Path, rows: list[dict[str, Any]]) -> Any:
    """A reward model, taught by rankings of the base's answers by their share of favoured words."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rewardmodel.config import FitConfig
    from rewardmodel.data import encode_items, group_rows
    from rewardmodel.fit import Fit
    from rewardmodel.model import RewardModel
    from rewardmodel.tokens import encode_prompt
    from training.engine.models import RoleModel
    from training.engine.rollout import Sampling
    from training.engine.rollout.fast import FastEngine

    from ._llamas import END

    tokenizer = AutoTokenizer.from_pretrained(base)
    engine = FastEngine(RoleModel(AutoModelForCausalLM.from_pretrained(base), tokenizer))
    prompts = [encode_prompt(tokenizer, row["messages"]) for row in rows for _ in range(ANSWERS)]
    answers = engine.generate(prompts, Sampling(48, 1.0, (END,)), torch.Generator().manual_seed(0))
    rankings = []
    for i, row in enumerate(rows):
        drawn = [answer.ids[: -1 if answer.finished else None] for answer in answers[i * ANSWERS : (i + 1) * ANSWERS]]
        shares = [sum(token % 10 == 0 for token in ids) / max(1, len(ids)) for ids in drawn]
        completions = [[{"role": "assistant", "content": tokenizer.decode(ids)}] for ids in drawn]
        tiers = [[k for k in range(ANSWERS) if shares[k] == share] for share in sorted(set(shares), reverse=True)]
        rankings.append(
            {
                "item": row["id"],
                "messages": row["messages"],
                "completions": completions,
                "tiers": tiers,
                "labeler": "",
                "weight": 1.0,
            }
        )
    model = RewardModel.create(str(base), lora_rank=16)
    items = encode_items(group_rows(rankings), model.encode_together)
    held_out = len(items) // 8
    config = FitConfig(epochs=8, batch_size=16, learning_rate=3e-3, head_learning_rate=3e-3)
    fit = Fit(model, items[held_out:], items[:held_out], config)
    for _ in fit.run():
        pass
    report = fit.finish()
    print(f"  Reward model: right about {report['eval/accuracy']:.0%} of held-out pairs.", flush=True)
    return model
