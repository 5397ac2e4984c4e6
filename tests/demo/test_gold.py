import ast
from pathlib import Path

import pytest

from demo import gold

ROOT = Path(__file__).parents[2]
PROMPT = "Hello, my kettle has not arrived. Can you help?"
GOOD = "I am sorry about that. We will find out where your kettle is."


def imported_modules(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in the file it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import cannot leave its top package.
            start = path.relative_to(ROOT).parts[0] + "." if node.level else ""
            names.update(f"{start}{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("package", ["training", "rewardmodel", "labeling", "accounts", "config"])
def test_nothing_that_trains_or_serves_can_reach_gold(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not [name for name in imported_modules(path) if name.split(".")[0] == "demo"], path
        assert "demo.gold" not in path.read_text(encoding="utf-8"), path


def test_only_judges_import_gold() -> None:
    judges = {"client.py", "judging.py", "labelers.py", "show_lm.py"}
    users = {path.name for path in (ROOT / "demo").rglob("*.py") if "demo.gold" in imported_modules(path)}
    assert users == judges
    reached = {path.name for path in (ROOT / "demo").rglob("*.py") if "demo.labelers" in imported_modules(path)}
    assert "train_lm.py" not in reached | users


def test_a_good_reply_is_worth_most_and_each_fault_costs() -> None:
    best = gold.utility(PROMPT, GOOD)
    assert gold.is_correct(PROMPT, GOOD)
    assert best == 6.5
    worse = [
        "We will find out where your kettle is.",
        GOOD + " Have a nice day.",
        "Stop complaining. " + GOOD,
        GOOD + " Our shop is open every day.",
        GOOD + " Well, you",
        GOOD.replace("kettle", "toaster"),
        "I am sorry about that. I will book a repair for your kettle.",
        "I am sorry about that. I do not know.",
        "Purple monkeys.",
        "",
    ]
    values = [gold.utility(PROMPT, reply) for reply in worse]
    assert all(value < best for value in values)
    assert [gold.is_correct(PROMPT, reply) for reply in worse] == [True] * 5 + [False] * 5
    assert values[8] < values[7]


def test_naming_two_items_or_promising_two_actions_is_not_correct() -> None:
    assert not gold.is_correct(PROMPT, GOOD + " We will find out where your lamp is.")
    assert not gold.is_correct(PROMPT, GOOD + " I will book a repair for your kettle.")


def test_a_prompt_from_outside_the_world_is_refused() -> None:
    with pytest.raises(gold.NotUnderstood):
        gold.understand("What is the capital of France?")
