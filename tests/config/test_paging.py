"""Pages by key: every row once, in order, whatever comes and goes; and only addresses that this site wrote."""

from __future__ import annotations

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import User
from config.paging import SALT, page_of
from labeling.models import Campaign

KEYS = ("overlap", "-edit_minutes", "pk")


def walk(*keys: str, size: int) -> list[int]:
    found, cursor = [], ""
    while True:
        page = page_of(Campaign.objects.all(), cursor, *keys, size=size)
        assert page.is_first == (cursor == "")
        found += [row.pk for row in page.rows]
        if not page.following:
            return found
        assert len(page.rows) == size
        cursor = page.following


class Walks(TestCase):
    @given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12), size=st.integers(1, 5))
    def test_the_pages_together_are_the_list(self, rows: list[tuple[int, int]], size: int) -> None:
        admin = User.objects.get_or_create(username="admin")[0]
        Campaign.objects.bulk_create(
            Campaign(name="c", created_by=admin, overlap=overlap, edit_minutes=minutes) for overlap, minutes in rows
        )
        assert walk(*KEYS, size=size) == list(Campaign.objects.order_by(*KEYS).values_list("pk", flat=True))


def test_a_row_that_comes_in_between_shifts_nothing(campaign: Campaign, admin: User) -> None:
    names = [Campaign.objects.create(name=name, created_by=admin).name for name in "bdfh"]
    rows = Campaign.objects.filter(name__in="abcdefgh")
    first = page_of(rows, "", "name", size=2)
    Campaign.objects.create(name="a", created_by=admin)
    first.rows[-1].delete()  # the last row of a page may go, too
    second = page_of(rows, first.following, "name", size=2)
    assert [row.name for row in (*first.rows, *second.rows)] == names
    assert second.following == ""


@pytest.mark.parametrize(
    "cursor",
    ["x", "0", "WzFd:1:abc", signing.dumps([1], salt="another"), signing.dumps(["a", 1], salt=SALT)],
    ids=["letter", "number", "forged", "of something else", "of another order"],  # signatures change with the clock
)
def test_an_address_that_nobody_was_given_is_that_of_the_first_page(campaign: Campaign, cursor: str) -> None:
    assert page_of(Campaign.objects.all(), cursor, "name").is_first
