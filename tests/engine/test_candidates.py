"""Items that an ensemble judges at the end of its run."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from rewardmodel.ensemble import Ensemble
from tests.engine.test_reward_run import make_run
from tests.rewardmodel.conftest import save_llama
from tests.rewardmodel.worlds import planted_rows
from training.engine.__main__ import main
from training.engine.rundir import CANDIDATES, RunDir, read_jsonl, write_jsonl


def candidate(item: str, *answers: str) -> dict[str, Any]:
    completions = [[{"role": "assistant", "content": answer}] for answer in answers]
    return {"item": item, "messages": [{"role": "user", "content": "q"}], "completions": completions}


CANDIDATE_ROWS = [candidate("pair", "zzz", "a"), candidate("same", "z", "z"), candidate("three", "zz", "bd", "zb")]
ALONE = candidate("alone", "z")  # compares nothing


def ask(run: RunDir) -> RunDir:
    """Give the run candidates, too."""
    rankings = len(list(read_jsonl(run.data / "rankings.jsonl")))
    count = write_jsonl(run.data / CANDIDATES, [*CANDIDATE_ROWS, ALONE])
    run.write_manifest({"rankings.jsonl": rankings, CANDIDATES: count})
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_llama(tmp_path_factory.mktemp("base")))


def test_gains_are_the_disagreement_of_the_saved_members(tmp_path: Path, base: str) -> None:
    run = ask(make_run(tmp_path / "run", planted_rows(40, 2, 0), base=base, members=3))
    assert main([str(run.path)]) == 0
    gains = {row["item"]: row["gain"] for row in read_jsonl(run.artifact / CANDIDATES)}
    assert list(gains) == ["pair", "same", "three"]
    members = Ensemble.load(run.artifact).members
    for row in CANDIDATE_ROWS:
        conversations = [[*row["messages"], *completion] for completion in row["completions"]]
        # `score` is normalised by each head; the logits that it was trained with are not.
        raw = np.array([np.array(one.score(conversations)) * float(one.head.sd) for one in members])
        pairs = list(combinations(range(raw.shape[1]), 2))
        expected = np.mean([expit(raw[:, i] - raw[:, j]).var() for i, j in pairs])
        assert gains[row["item"]] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert gains["same"] == 0 < gains["pair"]
    files = json.loads((run.artifact / "card.json").read_text())["data"]["files"]
    assert files[CANDIDATES]["rows"] == 4
    again = ask(make_run(tmp_path / "again", planted_rows(40, 2, 0), base=base, members=3))
    assert main([str(again.path)]) == 0
    assert (again.artifact / CANDIDATES).read_bytes() == (run.artifact / CANDIDATES).read_bytes()


def test_without_candidates_or_members_nothing_is_judged(tmp_path: Path, base: str) -> None:
    single = ask(make_run(tmp_path / "single", planted_rows(20, 2, 0), base=base, epochs=1))
    unasked = make_run(tmp_path / "unasked", planted_rows(20, 2, 0), base=base, epochs=1, members=2)
    for run in (single, unasked):
        assert main([str(run.path)]) == 0
        assert not (run.artifact / CANDIDATES).exists()
