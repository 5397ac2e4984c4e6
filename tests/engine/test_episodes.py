"""How a batch is cut into passes."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from training.engine.episodes import PASS, similar_lengths


def cost(groups: list[list[int]], lengths: list[int]) -> int:
    return sum(PASS + len(group) * max(lengths[i] for i in group) for group in groups)


def every_cut(order: list[int], size: int) -> list[list[list[int]]]:
    """All ways to cut a list into runs of at most `size`."""
    ways = []
    for cuts in product([False, True], repeat=len(order) - 1):
        groups = [[order[0]]]
        for index, cut in zip(order[1:], cuts, strict=True):
            if cut:
                groups.append([])
            groups[-1].append(index)
        if all(len(group) <= size for group in groups):
            ways.append(groups)
    return ways


@given(st.lists(st.integers(1, 900), min_size=1, max_size=8), st.integers(1, 8))
def test_passes_are_the_cheapest_there_are(lengths: list[int], size: int) -> None:
    groups = similar_lengths(lengths, size)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert max(map(len, groups)) <= size
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    assert cost(groups, lengths) == min(cost(way, lengths) for way in every_cut(order, size))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 5)), min_size=1, max_size=20), st.integers(1, 8))
def test_rows_of_several_answers_count_for_so_many(rows: list[tuple[int, int]], size: int) -> None:
    lengths, sizes = [length for length, _ in rows], [count for _, count in rows]
    groups = similar_lengths(lengths, size, sizes)
    assert sorted(i for group in groups for i in group) == list(range(len(rows)))
    assert all(len(group) == 1 or sum(sizes[i] for i in group) <= size for group in groups)
