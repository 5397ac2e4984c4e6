"""A language small enough to train in a test: a tokenizer of words made by hand, a Llama of a few thousand weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rewardmodel.model import RewardModel
from training.engine.config import parse_config, to_json
from training.engine.models import RoleModel
from training.engine.rundir import SUCCEEDED, RunDir, write_jsonl
from training.engine.session import Session

ROOT = Path(__file__).resolve().parents[2]
SPECIALS = ["<pad>", "<end>", "<user>", "<assistant>", "<system>"]
# fmt: off
WORDS = ["red", "green", "blue", "one", "two", "three", "sun", "moon", "star",
         "cat", "dog", "bird", "good", "bad", "yes", "no", "the", "and"]
# fmt: on
VOCABULARY = {word: i for i, word in enumerate([*SPECIALS, *WORDS])}
PAD, END = VOCABULARY["<pad>"], VOCABULARY["<end>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ '<end> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>", unk_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_llama(seed: int = 0, hidden: int = 32, layers: int = 2, context: int = 64) -> LlamaForCausalLM:
    """Random weights, large enough that answers differ between prompts."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def make_roles(seed: int = 0, **sizes: int) -> RoleModel:
    return RoleModel(make_llama(seed, **sizes), make_tokenizer(), "tiny")


def save_base(path: Path, seed: int = 0, **sizes: int) -> Path:
    make_llama(seed, **sizes).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


def save_reward(path: Path, base: Path, seed: int = 0) -> Path:
    """A reward artifact with an opinion that nobody trained: random weights, so that roles are told apart."""
    model = RewardModel.create(str(base), lora_rank=4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.head.mean.fill_(0.3)
        model.head.sd.fill_(2.0)
    path.mkdir(parents=True)
    model.save(path)
    (path / "card.json").write_text(json.dumps({"kind": "reward", "format": "adapter", "base": str(base)}))
    return path


def save_adapter(path: Path, seed: int = 7) -> Path:
    """A policy adapter that changes the base noticeably."""
    roles = make_roles()
    roles.add_fresh("policy", rank=4, alpha=8)
    randomize(roles, "policy", seed)
    path.mkdir(parents=True)
    roles.save("policy", path)
    return path


def randomize(roles: RoleModel, role: str, seed: int, scale: float = 0.2) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in roles.parameters(role):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def prompt_rows(count: int, seed: int = 0, held_out: int = 0) -> list[dict[str, Any]]:
    """Prompts of one to four words; the last `held_out` are marked for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(count):
        length = 1 + i % 4
        words = [WORDS[int(n)] for n in torch.randint(len(WORDS), (length,), generator=generator)]
        row: dict[str, Any] = {"id": f"p{i}", "messages": [{"role": "user", "content": " ".join(words)}]}
        rows.append(row | ({"split": "eval"} if i >= count - held_out else {}))
    return rows


def make_run(path: Path, kind: str, settings: dict[str, Any], **files: list[dict[str, Any]]) -> RunDir:
    """A run directory as the web side writes it; `prompts=rows` becomes data/prompts.jsonl."""
    rundir = RunDir(path)
    rundir.create()
    rundir.write_manifest(
        {f"{name}.jsonl": write_jsonl(rundir.data / f"{name}.jsonl", rows) for name, rows in files.items()}
    )
    rundir.config.write_text(json.dumps(to_json(kind, parse_config(kind, settings))))
    return rundir


def open_session(rundir: RunDir) -> Session:
    raw = json.loads(rundir.config.read_text())
    return Session(rundir, raw["kind"], parse_config(raw["kind"], raw["settings"]), rundir.verify_manifest())


def start_engine(rundir: RunDir) -> subprocess.Popen[str]:
    """The real program, with its output where the supervisor would put it."""
    command = [sys.executable, "-m", "training.engine", str(rundir.path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with rundir.log.open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, text=True)


def run_engine(rundir: RunDir, expect: int = SUCCEEDED) -> dict[str, Any]:
    """Run to the end and return the status."""
    code = start_engine(rundir).wait(timeout=280)
    assert code == expect, rundir.log.read_text()
    return rundir.read_status()


def events_of(rundir: RunDir, type: str | None = None) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in rundir.events.read_text().splitlines()]
    return [event for event in events if type in (None, event["type"])]


def without_clock(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events less what depends on the time of day or the speed of the machine."""
    kept = []
    for event in events:
        event = {key: value for key, value in event.items() if key != "time"}
        if "metrics" in event:
            event["metrics"] = {k: v for k, v in event["metrics"].items() if not k.startswith("perf/")}
        kept.append(event)
    return kept
