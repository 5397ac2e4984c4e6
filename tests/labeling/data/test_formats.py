"""Each format, known and read: its own example, a small file of ours, and whatever else somebody may bring."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling.data.containers import read_rows
from labeling.data.files import BadLine
from labeling.data.formats.base import Format
from labeling.data.formats.columns import Columns
from labeling.data.formats.registry import FORMATS, detect, format_of, parse_rows
from labeling.data.rows import ParsedRow, check_storable

GOLDEN = Path(__file__).parent / "formats"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


def parsed(rows: list[Any], protocol: str = "ranking", chosen: Format | None = None) -> list[Any]:
    return [item for _, item in parse_rows(enumerate(rows, 1), protocol, chosen)]


def summary(item: ParsedRow | BadLine) -> Any:
    """What an annotator, a leaderboard and a reward model would get to know."""
    if isinstance(item, BadLine):
        return str(item)
    return {
        "prompt": [f"{message['role']}: {message['content']}" for message in item.messages],
        "completions": [
            [completion.source, *(f"{message['role']}: {message['content']}" for message in completion.messages)]
            for completion in item.completions
        ],
        "tiers": item.tiers,
        "labeler": item.labeler,
    }


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.*l*")), ids=lambda path: path.name)
def test_a_small_file_of_each_format_is_read_as_it_should_be(path: Path):
    if path.name == "expected.json":
        pytest.skip("what is expected of the others")
    with path.open("rb") as file:
        found = [summary(item) for _, item in parse_rows(read_rows(file), "ranking")]
    assert found == EXPECTED[path.name]


def test_every_format_has_a_small_file():
    assert {Path(name).stem for name in EXPECTED} >= FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_an_example_is_known_as_its_format_and_can_be_read(name: str):
    format = FORMATS[name]
    assert format_of(format.example) is format
    assert next(iter(detect([format.example]).items())) == (name, 1.0)
    [item] = parsed([format.example, format.example] if format.joins else [format.example])[:1]
    if format.joins and isinstance(item, BadLine):
        assert "identical" in str(item)  # twice the same answer, but the same item
    else:
        assert isinstance(item, ParsedRow)


def test_detection_says_why_a_format_does_not_fit():
    found = detect([FORMATS["arena"].example, {"instruction": "x", "output": 3}])
    assert found["arena"] == 0.5
    assert found["alpaca"] == '"output" must be a text.'
    assert found["dolly"] == "Rows look like instruction, context, response, category."
    assert detect([])["trl"] == "There are no rows."


def test_a_format_that_was_chosen_refuses_the_rows_of_others():
    [item] = parsed([FORMATS["arena"].example], "pair", FORMATS["trl"])
    assert str(item).startswith("The line does not look like TRL")


def test_neighbours_with_one_prompt_become_items_as_large_as_the_protocol_takes():
    rows = [{"instruction": "Q", "output": f"answer {n}", "generator": f"m{n}"} for n in range(5)]
    sizes = [len(item.completions) if isinstance(item, ParsedRow) else str(item) for item in parsed(rows, "pair")]
    assert sizes[:2] == [2, 2]
    assert "only one answer to this prompt" in str(sizes[2])
    [item] = parsed(rows)
    assert isinstance(item, ParsedRow)
    assert [completion.source for completion in item.completions] == ["m0", "m1", "m2", "m3", "m4"]
    assert item.tiers is None


def test_unpaired_rows_rank_only_where_their_labels_differ():
    row = {"prompt": "Q", "label": True}
    both = [row | {"completion": "a"}, row | {"completion": "b"}]
    assert parsed(both, "pair")[0].tiers is None
    assert parsed([both[0] | {"label": False}, both[1]], "pair")[0].tiers == [[1], [0]]
    assert "true or false" in str(parsed([both[0] | {"label": "maybe"}], "pair")[0])


def test_ratings_that_are_equal_are_ties_and_a_missing_one_ranks_nothing():
    def rated(*scores: Any) -> dict[str, Any]:
        given = [{"response": f"a{n}", "model": "m", "overall_score": score} for n, score in enumerate(scores)]
        return {"instruction": "Q", "completions": given}

    assert parsed([rated(3, 5, "3.0")])[0].tiers == [[1], [0, 2]]
    assert parsed([rated(3, 5, None)])[0].tiers is None
    assert parsed([rated(3, 5, "N/A")])[0].tiers is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "replies", "from", "value", "rank", "output", "response"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.data(),
    st.sampled_from(["pair", "ranking", "conversation"]),
    st.booleans(),
)
def test_whatever_is_wrong_in_a_row_it_is_refused_with_a_sentence(
    name: str, data: st.DataObject, protocol: str, chosen: bool
):
    row: Any = json.loads(json.dumps(FORMATS[name].example))
    for _ in range(data.draw(st.integers(1, 2))):
        place = row
        while True:  # go down somewhere, then put something there that nobody expects
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys)) if keys else None
            if key is None or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                break
            place = place[key]
        if key is not None:
            place[key] = data.draw(VALUES)
    for item in parsed([row, row], protocol, FORMATS[name] if chosen else None):
        if isinstance(item, BadLine):
            assert str(item).endswith((".", "?", ":")) and len(str(item)) < 700
        else:
            assert len(item.completions) >= 2
            check_storable({"all": [completion.messages for completion in item.completions]})


def test_broken_branches_of_a_tree_leave_the_others():
    tree = json.loads(json.dumps(FORMATS["oasst"].example))
    tree["prompt"]["replies"][0]["replies"] = [{"role": "prompter", "text": None}]
    first, second = parsed([tree])
    assert isinstance(first, ParsedRow)
    assert 'needs a "text"' in str(second)


def test_a_row_of_no_known_form_says_so():
    found = [str(item) for _, item in parse_rows(read_rows(io.BytesIO(b'{"a": 1}\n[1]\n7\n')), "pair")]
    assert found[0].startswith('A line needs "completions"')
    assert found[1:] == ["The line is not a JSON object."] * 2


TABLE = {"Question": "Q", "one": "a", "two": "b", "by one": "m1", "by two": "m2", "better": "", "note": 7}


@pytest.mark.parametrize(
    ("winner", "tiers"),
    [
        ("A", [[0], [1]]),
        ("model_b", [[1], [0]]),
        ("two", [[1], [0]]),
        (" m1 ", [[0], [1]]),
        ("Tie", [[0, 1]]),
        ("", None),
        (None, None),
        (2, [[1], [0]]),
    ],
)
def test_the_winner_in_a_table_is_named_by_place_column_or_source(winner: Any, tiers: Any):
    columns = Columns("Question", ("one", "two"), ("by one", "by two"), "better")
    [item] = parsed([TABLE | {"better": winner}], "pair", columns.as_format())
    assert item.tiers == tiers
    assert item.messages == [{"role": "user", "content": "Q"}]
    assert [completion.source for completion in item.completions] == ["m1", "m2"]
    assert item.meta == {"note": 7}


def test_a_table_without_the_columns_or_with_another_winner_is_refused():
    columns = Columns("Question", ("one", "two"), winner="better")
    wrong = [{"Question": "Q", "one": "a"}, TABLE | {"better": "three"}, TABLE | {"one": None}]
    reasons = [str(item) for item in parsed(wrong, "pair", columns.as_format())]
    assert reasons[0] == "The line does not look like Columns that I choose."
    assert reasons[1].startswith("The winner is 'three'")
    assert "Completion 1" in reasons[2]
