"""The documents name what exists: files, targets, settings, metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md", "docker/README.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        if "://" not in target:
            linked = (path.parent / file).resolve() if file else path
            assert linked.exists(), f"{name}: {target}"
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"\bmake (demo|test|run|worker|lint|setup|bench|pins|format)\b", (ROOT / name).read_text()))
        <= targets
    )


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = (ROOT / "README.md").read_text().split("```")[3]
    folders = set(re.findall(r"(?:^| )(\w+)/", tree, re.MULTILINE)) - {"engine", "e2e"}
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders == there - {"var", "staticfiles"}


def test_every_setting_is_explained() -> None:
    settings = (ROOT / "config" / "settings.py").read_text()
    read = set(re.findall(r"""(?:env_\w+\(|environ\.get\(|env_secret\()\s*"([A-Z_]+)\"""", settings))
    explained = set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs" / "design.md").read_text().split("## Settings")[1]))
    assert read - explained == set()
    elsewhere = {"WEB_CONCURRENCY", "PREFLOOP_REWARDS", "RAY_ADDRESS"}  # uvicorn, the engine and Ray read them
    assert explained - read - {"INFO", "UTC"} == {"NAME_FILE", "NAME"} | elsewhere


def test_every_metric_is_explained() -> None:
    sources = [*(ROOT / "training" / "engine").rglob("*.py"), *(ROOT / "rewardmodel").rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    emitted = set(re.findall(r"\"((?:objective|policy|loss|val|eval|perf)/\w+)\"", text))
    explained = set(re.findall(r"`(\w+/\w+)`", (ROOT / "docs" / "design.md").read_text().split("## Metrics")[1]))
    assert len(emitted) > 15
    assert emitted - explained == set()
