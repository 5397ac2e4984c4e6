"""Query strings reach no lookup of the database: what is not a parameter of ours changes nothing in an answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.accounts.routes import World, make_world, own_routes
from tests.accounts.test_every_route import MASKED
from tests.conftest import client_for

pytestmark = pytest.mark.django_db
# Lookups through relations to what must not be told: a password's hash, letter by letter.
LOOKUPS = [
    "user__password__startswith=pbkdf2",
    "created_by__password__startswith=md5",
    "campaign__memberships__user__email__contains=a",
    "labeler__in=x&user=1&id__gt=0&pk=1",
    "ordering=user__password&order_by=password&sort=-created_by__password&fields=password",
    "search=admin&q=%25&filter[password]=1&expand=user.password&include=user&format=api",
    "limit=100000&offset=-1&_method=DELETE&where=1%3D1&raw=1",
]
# What changes by itself: the time since something ("now", "a second ago", "2 seconds ago"), and ids of requests.
CHANGING = re.compile(r"(?:\d+(?:\.\d+)?|\ba)(?:&nbsp;|\s)(?:seconds?|minutes?)(?: ago)?|\bnow\b|[0-9a-f]{32}")
# Values that parameters of ours may meet.
HOSTILE = ["", "-1", "0", "9" * 30, "1e9", "null", "[]", "%00", "\u202e", "' OR 1=1--", "../../etc/passwd", "a" * 3000]
OURS = (
    "page",
    "page_size",
    "cursor",
    "after",
    "before",
    "find",
    "invited",
    "what",
    "as",
    "state",
    "kind",
    "tab",
    "since",
    "empty",
    "labeler",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world(db: None) -> World:
    return make_world()


def plain(content: bytes, query: str) -> str:
    text = MASKED.sub("", content.decode(errors="replace"))
    return CHANGING.sub("", text.replace(query, "").replace(query.replace("&", "&amp;"), ""))


def test_a_lookup_in_the_query_string_changes_nothing(world: World) -> None:
    client = client_for(world.people["lead"])
    wrong, asked = [], 0
    for route in own_routes():
        url = next(url for url, near in world.urls(route) if near)
        if route.name in ("healthz", "api_schema"):
            continue
        before = client.get(url)
        if before.status_code != 200 or before.streaming:
            continue
        for query in LOOKUPS:
            after = client.get(f"{url}?{query}")
            asked += 1
            if after.status_code != 200 or plain(after.content, query) != plain(before.content, query):
                wrong.append(f"{url}?{query}: {after.status_code}")
    assert wrong == []
    assert asked > 200


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_value_of_a_parameter_breaks_a_page(world: World, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(own_routes()))
    url = next(url for url, near in world.urls(route) if near)
    name = data.draw(st.sampled_from(OURS))
    value = data.draw(st.sampled_from(HOSTILE) | st.text(max_size=20))
    answer = client_for(world.people["lead"]).get(url, {name: value})
    assert answer.status_code < 500, (url, name, value)
