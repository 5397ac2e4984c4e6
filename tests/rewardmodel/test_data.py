"""Rows to items, and the split that no prompt crosses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardmodel.data import DataError, Encoded, Item, Label, encode_items, epoch_batches, group_rows, split_items
from rewardmodel.tokens import EncodingError

from .worlds import planted_rows


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def make_row(item: str = "1", prompt: str = "Q", tiers: Any = ((0,), (1,)), **changes: Any) -> dict[str, Any]:
    row = {
        "item": item,
        "messages": [user(prompt)],
        "completions": [[answer("a")], [answer("b")]],
        "tiers": [list(t) for t in tiers],
        "labeler": "ann",
        "weight": 1.0,
    }
    return row | changes


def test_people_who_ranked_the_same_item_are_grouped() -> None:
    rows = [make_row("1"), make_row("2", "other"), make_row("1", tiers=[[1], [0]], labeler="bob", weight=0.5)]
    first, second = group_rows(rows)
    assert first.labels == (Label(((0,), (1,)), "ann", 1.0), Label(((1,), (0,)), "bob", 0.5))
    assert (first.id, second.id) == ("1", "2")


def test_a_ranking_that_prefers_nothing_gives_no_loss() -> None:
    rows = [make_row("1", tiers=[[0, 1]]), make_row("2"), make_row("2", tiers=[[0, 1]]), make_row("3", weight=0.0)]
    (only,) = group_rows(rows)
    assert only.id == "2" and len(only.labels) == 1


def test_an_edited_completion_is_preferred_to_what_it_was() -> None:
    edited = [None, [answer("b, mended")]]
    rows = [
        make_row("1", edited=edited, strength=0.25, sources=["x", None]),
        make_row("1", tiers=[[0, 1]], labeler="bob", edited=edited, weight=0.5, sources=["x", None]),
        make_row("2", "other", edited=[[answer("a, mended")], None], weight=0.0),
    ]
    ranked, pair = group_rows(rows)
    assert ranked.labels == (Label(((0,), (1,)), "ann", 1.0, 0.25),)
    assert pair.completions == ((answer("b, mended"),), (answer("b"),))
    assert pair.labels == (Label(((0,), (1,)), "ann", 1.0), Label(((0,), (1,)), "bob", 0.5))
    assert (pair.prompt, pair.sources) == (ranked.prompt, ("edited", ""))
    assert [item.id for item in group_rows(rows, edits=False)] == ["1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (make_row(tiers=[[0], [2]]), "Row 2 .* no completion 2"),
        (make_row(tiers=[[0], [0]]), "ranked twice"),
        (make_row(messages="Q"), "messages are a list"),
        (make_row(completions=[[answer("a")], []]), "a completion is empty"),
        (make_row(weight=-1), "weight -1.0"),
        (make_row(strength=1.5), "strength 1.5"),
        (make_row(edited=[None]), "edited completions"),
        (make_row(weight=float("nan")), "weight nan"),
        ({"item": "1"}, "messages is missing"),
        (make_row("0", "another question"), "item 0 with other texts"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        group_rows([make_row("0"), row])


def items_for(prompts: list[str]) -> list[Item]:
    return group_rows(make_row(str(i), prompt) for i, prompt in enumerate(prompts))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(max_size=3), min_size=2, max_size=40),
    st.floats(0.01, 0.9),
    st.integers(0, 5),
)
def test_no_prompt_is_on_both_sides(prompts: list[str], fraction: float, seed: int) -> None:
    items = items_for(prompts)
    if len(set(prompts)) < 2:
        with pytest.raises(DataError, match="need two"):
            split_items(items, fraction, seed)
        return
    train, held_out = split_items(items, fraction, seed)
    assert train and held_out
    assert sorted(i.id for i in train + held_out) == sorted(i.id for i in items)
    sides = [{item.messages[0]["content"] for item in part} for part in (train, held_out)]
    assert not sides[0] & sides[1]


def test_a_prompt_stays_on_its_side_when_data_arrives() -> None:
    few, many = items_for([f"p{i}" for i in range(200)]), items_for([f"p{i}" for i in range(400)])
    old, new = ({i.prompt for i in split_items(items, 0.2, 7)[1]} for items in (few, many))
    assert old == {i.prompt for i in few} & new
    assert 0.12 < len(new) / 400 < 0.28
    assert old != {i.prompt for i in split_items(few, 0.2, 8)[1]}


def test_whole_conversations_with_the_same_beginning_are_one_prompt() -> None:
    def pair(item: str, opening: str, split: bool) -> dict[str, Any]:
        opened = [user(opening)]
        ends = [[answer("a")], [answer("b")]]
        if split:
            return make_row(item, messages=opened, completions=ends)
        return make_row(item, messages=[], completions=[opened + end for end in ends])

    a, b, c = group_rows([pair("1", "Hi", True), pair("2", "Hi", False), pair("3", "Hello", False)])
    assert a.prompt == b.prompt != c.prompt
    distinct = make_row("4", messages=[], completions=[[user("x"), answer("a")], [user("y"), answer("b")]])
    other = make_row("5", messages=[], completions=[[user("x"), answer("a")], [user("z"), answer("b")]])
    d, e = group_rows([distinct, other])
    assert len({a.prompt, c.prompt, d.prompt, e.prompt}) == 4


def encoded(lengths: list[int]) -> list[Encoded]:
    items = items_for([str(i) for i in range(len(lengths))])
    return [Encoded(item, ([0] * n, [0] * n)) for item, n in zip(items, lengths, strict=True)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_item_once(lengths: list[int], size: int, epoch: int) -> None:
    items = encoded(lengths)
    batches = epoch_batches(items, size, 1, epoch)
    assert sorted(e.item.id for b in batches for e in b) == sorted(e.item.id for e in items)
    assert all(1 <= len(b) <= size for b in batches)
    assert len(batches) == -(-len(items) // size)
    assert batches == epoch_batches(items, size, 1, epoch)


def test_batches_have_similar_lengths_and_random_order() -> None:
    items = encoded([(7 * i) % 100 + 1 for i in range(80)])
    batches = epoch_batches(items, 10, 0, 0)
    assert all(max(e.longest for e in b) - min(e.longest for e in b) < 30 for b in batches)
    assert batches != epoch_batches(items, 10, 0, 1)
    first = [b[0].longest for b in batches]
    assert first != sorted(first)


def test_what_cannot_be_encoded_names_its_item() -> None:
    def refuse(conversations: Any) -> list[list[int]]:
        raise EncodingError("no")

    with pytest.raises(DataError, match="Item 0 cannot be encoded: no"):
        encode_items(items_for(["a"]), refuse)
    with pytest.raises(DataError, match="without any token"):
        encode_items(items_for(["a"]), lambda conversations: [[] for _ in conversations])


def test_sources_are_read_where_rows_have_them() -> None:
    row = planted_rows(1, 3, seed=0)[0] | {"tiers": [[0], [1, 2]]}
    [plain], [named] = group_rows([row]), group_rows([row | {"sources": ["base", None, "tuned"]}])
    assert (plain.sources, named.sources) == ((), ("base", "", "tuned"))
    for wrong in ("base", ["base"], ["a", "b", 3]):
        with pytest.raises(DataError, match="sources are a list of names"):
            group_rows([row | {"sources": wrong}])
