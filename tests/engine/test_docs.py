"""docs/engine.md: what it shows can be run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.data import group_rows
from tests.engine.tiny import ROOT, save_base, save_reward
from training.engine.__main__ import main
from training.engine.config import KINDS, parse_config
from training.engine.rundir import SUCCEEDED

FILES = {"sft": "sft.jsonl", "reward": "rankings.jsonl", "ppo": "prompts.jsonl", "sampling": "prompts.jsonl"}
BLOCKS = re.findall(r'```\n(\{"kind".*?)\n```', (ROOT / "docs" / "engine.md").read_text(encoding="utf-8"), re.DOTALL)
EXAMPLES = {json.loads(lines[0])["kind"]: lines for lines in map(str.splitlines, BLOCKS)}
SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"iterations": 1, "batch_size": 2, "max_new_tokens": 6},
    "sampling": {"max_new_tokens": 6},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_reward(folder / "reward", save_base(folder / "base"))
    return folder


def test_there_is_an_example_for_each_kind() -> None:
    assert set(EXAMPLES) == set(KINDS)
    for kind, (config, *rows) in EXAMPLES.items():
        assert parse_config(kind, json.loads(config)["settings"])
        assert all(json.loads(row) for row in rows)
    assert len(group_rows([json.loads(row) for row in EXAMPLES["reward"][1:]])) == 1


@pytest.mark.parametrize("kind", ["sft", "ppo", "sampling"])
def test_the_examples_run_with_nothing_but_a_config_and_data(kind: str, places: Path, tmp_path: Path) -> None:
    line, *rows = EXAMPLES[kind]
    config = json.loads(line)
    here = {"base": str(places / "base"), "reward_path": str(places / "reward"), "adapter": ""}
    config["settings"] |= {key: here[key] for key in here if key in config["settings"]} | SMALL.get(kind, {})
    (tmp_path / "data").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "data" / FILES[kind]).write_text("\n".join(rows) + "\n")
    assert main([str(tmp_path)]) == SUCCEEDED
    assert (tmp_path / "artifact" / "card.json").exists()
