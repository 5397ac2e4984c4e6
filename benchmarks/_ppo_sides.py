"""One PPO training, ours or TRL's, in a process of its own: `python -m benchmarks._ppo_sides SPEC.json`.

Prints what it measured as one line of JSON. The first iteration is a warm-up and not measured; an iteration is
everything from the end of the one before, clean-up, logging and optimizers included.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PHASES = ("generate", "score", "train")


@dataclass(frozen=True)
class Spec:
    """What both sides shall do. `value` is ours alone; `full` lets TRL train all weights of the policy."""

    base: str
    reward: str  # our artifact
    classifier: str  # the same, merged, for TRL
    prompts: str  # JSON lines of {"id", "messages"}
    iterations: int
    batch: int = 32
    mini_batches: int = 4
    epochs: int = 4
    new_tokens: int = 48
    rank: int = 16
    learning_rate: float = 1e-4
    value_learning_rate: float = 1e-4
    kl_coef: float = 0.05
    dtype: str = "float32"
    seed: int = 0
    threads: int = 0
    value: str = "adapter"
    full: bool = False
    completions: int = 1  # more: RLOO instead of PPO

    def write(self, path: Path, side: str) -> Path:
        path.write_text(json.dumps({"side": side, "spec": asdict(self)}), encoding="utf-8")
        return path


class Watch:
    """Clock, computing time, phases and scores of each iteration; memory above the process before any model.

    The libraries take memory of their own at their first use, on both sides: they are used before it is measured.
    """

    def __init__(self, threads: int) -> None:
        warm_up(threads)
        self._bare = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        self._marks: list[tuple[float, float]] = []
        self.rows: list[dict[str, float]] = []

    def iteration(self, row: dict[str, float]) -> None:
        """An iteration is over; `row` has seconds by phase, answer tokens and the mean score."""
        self._marks.append((time.perf_counter(), time.process_time()))
        self.rows.append(row)

    def result(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        measured = len(self.rows) - 1
        (start, start_cpu), (end, end_cpu) = self._marks[0], self._marks[-1]
        mean = {name: sum(row[name] for row in self.rows[1:]) / measured for name in self.rows[0]}
        return {
            "seconds": (end - start) / measured,
            "cpu_seconds": (end_cpu - start_cpu) / measured,
            "memory_mb": (peak - self._bare) / 2**20,
            "phases": {name: mean[name] for name in PHASES},
            "tokens": mean["tokens"],
            "scores": [row["mean_score"] for row in self.rows],
            "times": [mark[0] - start for mark in self._marks],
        }


def warm_up(threads: int) -> None:
    """Train a Llama of a few weights once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if threads:
        torch.set_num_threads(threads)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model, ids = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)), torch.zeros(8, 64, dtype=torch.long)
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)(input_ids=ids, labels=ids).loss.backward()
        torch.randn(256, 256, dtype=dtype) @ torch.randn(256, 256, dtype=dtype)
    with torch.no_grad():  # oneDNN in float32
        torch.ops.mkldnn._linear_pointwise(torch.randn(256, 256), torch.randn(256, 256), None, "none", [], "")


def run_apart(side: str, spec: Spec, trl: Path | None = None) -> dict[str, Any]:
    """Train in a process of its own and return what it measured, with the TRL in a folder of its own or ours."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1",
        # How our engine is started, too: threads that wait spin shortly, so that a busy neighbour does not matter.
        "GOMP_SPINCOUNT": "2000",
    }  # fmt: skip
    if trl:
        environment["PYTHONPATH"] = f"{trl}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        path = spec.write(Path(folder) / "spec.json", side)
        command = [sys.executable, "-m", "benchmarks._ppo_sides", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def train_ours(spec: Spec, folder: Path) -> dict[str, Any]:
    """A run as the product runs it: a run directory, and the engine's own `ppo.run` on it."""
    from training.engine import ppo
    from training.engine.config import parse_config, to_json
    from training.engine.rundir import RunDir, read_jsonl, write_jsonl
    from training.engine.session import Session

    settings: dict[str, Any] = {
        "base": spec.base, "reward_path": spec.reward, "iterations": spec.iterations, "batch_size": spec.batch,
        "mini_batches": spec.mini_batches, "micro_batch_size": spec.batch, "ppo_epochs": spec.epochs,
        "max_new_tokens": spec.new_tokens, "lora_rank": spec.rank, "lora_alpha": 2.0 * spec.rank,
        "learning_rate": spec.learning_rate, "value_learning_rate": spec.value_learning_rate,
        "kl_coef": spec.kl_coef, "dtype": spec.dtype, "seed": spec.seed, "threads": spec.threads,
        "value_warmup": 0, "samples": 1, "sample_every": 1 << 20, "checkpoint_every": 1 << 20,
    }  # fmt: skip
    if spec.completions > 1:
        settings |= {"advantage": "rloo", "completions": spec.completions}
    else:
        settings["value"] = spec.value
    rundir = RunDir(folder / "run")
    rundir.create()
    rows = list(read_jsonl(Path(spec.prompts)))
    rundir.write_manifest({"prompts.jsonl": write_jsonl(rundir.data / "prompts.jsonl", rows)})
    config = parse_config("ppo", settings)
    rundir.config.write_text(json.dumps(to_json("ppo", config)), encoding="utf-8")
    watch = Watch(spec.threads)

    class Watched(Session):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            super().metrics(step, values)
            if "perf/seconds_train" in values:
                row = {name: values[f"perf/seconds_{name}"] for name in PHASES}
                tokens = values["objective/length"] * spec.batch
                watch.iteration(row | {"tokens": tokens, "mean_score": values["objective/paid_scores"]})

    ppo.run(Watched(rundir, "ppo", config, rundir.verify_manifest()))
    return watch.result()


def train_trl(spec: Spec, folder: Path) -> dict[str, Any]:
    """TRL's PPOTrainer as documented; its functions are wrapped to tell the phases."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    from rewardmodel.tokens import encode_prompt
    from training.engine.rundir import read_jsonl

    watch = Watch(spec.threads)
    tokenizer = AutoTokenizer.from_pretrained(spec.base, padding_side="left")
    prompts = [encode_prompt(tokenizer, row["messages"]) for row in read_jsonl(Path(spec.prompts))]
    arguments = PPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        save_strategy="no", disable_tqdm=True, num_sample_generations=0, seed=spec.seed,
        total_episodes=spec.iterations * spec.batch, per_device_train_batch_size=spec.batch,
        gradient_accumulation_steps=1, num_mini_batches=spec.mini_batches, num_ppo_epochs=spec.epochs,
        local_rollout_forward_batch_size=spec.batch, response_length=spec.new_tokens, temperature=1.0,
        stop_token="eos", missing_eos_penalty=1.0, learning_rate=spec.learning_rate, kl_coef=spec.kl_coef,
        lr_scheduler_type="linear",
    )  # fmt: skip
    dtype = getattr(torch, spec.dtype)
    classifier = AutoModelForSequenceClassification
    lora = LoraConfig(r=spec.rank, lora_alpha=2 * spec.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(spec.base, dtype=dtype),
        ref_model=None,
        reward_model=classifier.from_pretrained(spec.classifier, dtype=dtype),
        value_model=classifier.from_pretrained(spec.classifier, dtype=dtype),
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        peft_config=None if spec.full else lora,
    )
    times: dict[str, float] = {}
    counts: dict[str, float] = {}

    def once(name: str) -> None:
        times.setdefault(name, time.perf_counter())

    def wrap(name: str, after: Callable[[Any], None] | None = None, before: Callable[[], None] | None = None) -> None:
        original = getattr(ppo_trainer, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                before()
            result = original(*args, **kwargs)
            if after:
                after(result)
            return result

        setattr(ppo_trainer, name, wrapped)

    def count(result: Any) -> None:
        once("generated")
        counts["tokens"] = float((result[0][:, -spec.new_tokens :] != tokenizer.pad_token_id).sum())

    wrap("batch_generation", before=lambda: once("start"), after=count)
    wrap("forward", before=lambda: once("scored") if torch.is_grad_enabled() else None)

    class Callback(TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            counts["mean_score"] = logs["objective/scores"]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            once("end")
            order = ["start", "generated", "scored", "end"]
            row = {phase: times[b] - times[a] for phase, a, b in zip(PHASES, order, order[1:], strict=False)}
            watch.iteration(row | counts)
            times.clear()

    trainer.add_callback(Callback())
    trainer.train()
    return watch.result()


def train_rloo(spec: Spec, folder: Path) -> dict[str, Any]:
    """RLOOTrainer of the installed TRL; an iteration is a batch of answers with all its passes."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import RLOOConfig, RLOOTrainer

    from training.engine.rundir import read_jsonl

    watch = Watch(spec.threads)
    steps = spec.mini_batches * spec.epochs
    arguments = RLOOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], beta=spec.kl_coef,
        save_strategy="no", disable_tqdm=True, seed=spec.seed, max_steps=spec.iterations * steps, logging_steps=1,
        per_device_train_batch_size=spec.batch // spec.mini_batches, steps_per_generation=spec.mini_batches,
        num_iterations=spec.epochs, num_generations=spec.completions, max_completion_length=spec.new_tokens,
        temperature=1.0, learning_rate=spec.learning_rate, lr_scheduler_type="linear",
        model_init_kwargs={"dtype": spec.dtype},
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(spec.base, padding_side="left")
    trainer = RLOOTrainer(
        model=spec.base,
        args=arguments,
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(spec.classifier, dtype=spec.dtype),
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in read_jsonl(Path(spec.prompts))]),
        processing_class=tokenizer,
        reward_processing_classes=tokenizer,
        peft_config=LoraConfig(
            r=spec.rank, lora_alpha=2 * spec.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    seconds = dict.fromkeys(PHASES, 0.0)
    counts: dict[str, float] = {}

    def clock(name: str, phase: str, also: str | None = None) -> None:
        original = getattr(trainer, name)

        def clocked(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = original(*args, **kwargs)
            seconds[phase] += time.perf_counter() - start
            if also:  # the inner part belongs to another phase
                seconds[phase] -= seconds[also]
            return result

        setattr(trainer, name, clocked)

    clock("_generate", "generate")
    clock("_generate_and_score_completions", "score", also="generate")

    class Callback(TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            counts["tokens"] = logs.get("completions/mean_length", 0.0) * spec.batch or counts["tokens"]
            counts["mean_score"] = logs.get("reward", 0.0)

        def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step % steps == 0:
                now = time.perf_counter()
                seconds["train"] = now - times["began"] - seconds["generate"] - seconds["score"]
                watch.iteration(seconds | {"tokens": 0.0, "mean_score": 0.0} | counts)
                seconds.update(dict.fromkeys(PHASES, 0.0))
                times["began"] = now

    times = {"began": time.perf_counter()}
    trainer.add_callback(Callback())
    trainer.train()
    return watch.result()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    train = {"ours": train_ours, "trl": train_trl, "rloo": train_rloo}[job["side"]]
    with tempfile.TemporaryDirectory() as folder:
        result = train(Spec(**job["spec"]), Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
