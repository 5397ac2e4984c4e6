"""SECURITY.md names tests that exist, and every file of this folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from config.settings import BASE_DIR

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_proof_that_is_named_exists() -> None:
    named = NAMED.findall((BASE_DIR / "SECURITY.md").read_text())
    missing = [f"{path}::{name}" for path, name in named if name not in functions_in(BASE_DIR / path)]
    assert missing == []
    assert len(named) > 40


def test_every_file_of_this_folder_is_a_proof_of_something() -> None:
    listed = (BASE_DIR / "SECURITY.md").read_text()
    here = {f"tests/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert {path for path in here if path not in listed} == set()


def functions_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions)}
