"""Requests that Schemathesis makes of the API's own description: none breaks the server, all answers are as described.

`FUZZ_EXAMPLES=100` looks harder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.accounts.routes import World, make_world

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))  # of each operation and kind
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def app(db: None) -> Iterator[Any]:
    """The site, on the connection of this test."""
    logging.disable(logging.WARNING)  # thousands of refusals are expected
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield get_wsgi_application()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    logging.disable(logging.NOTSET)


def test_no_request_breaks_the_server_and_every_answer_is_as_described(app: Any, world: World) -> None:
    document: Any = SchemaGenerator().get_schema(request=None, public=True)
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    people = {name: create_token(world.people[name], name="fuzz")[1] for name in ("admin", "annotator")}
    found, count = [], 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        token = people["annotator" if "{lease}" in operation.path or "/me" in operation.path else "admin"]
        for problem in problems(operation, world, {"Authorization": f"Bearer {token}"}):
            found.append(f"{operation.label}: {problem}")
        count += 1
    assert not found, "\n\n".join(found)
    assert count > 40
    assert ApiToken.objects.filter(name="fuzz").count() == 2  # all that was done was undone


def problems(operation: Any, world: World, headers: dict[str, str]) -> Iterator[str]:
    """What is wrong with the answers to requests for things that exist, and for any."""
    names = [parameter.name for parameter in operation.path_parameters]
    known = {name: str(world.near.ids[name]) for name in names}
    kinds = [(GenerationMode.POSITIVE, known), (GenerationMode.NEGATIVE, known)]
    if known:
        kinds.append((GenerationMode.POSITIVE, {}))
    for mode, ids in kinds:
        try:
            send(operation.as_strategy(generation_mode=mode, path_parameters=ids or None), headers)
        except BaseExceptionGroup as group:
            yield "; ".join(str(error) for error in group.exceptions)
        except Exception as error:
            yield f"{type(error).__name__}: {error}"


def send(strategy: st.SearchStrategy[Any], headers: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: Any) -> None:
        savepoint = transaction.savepoint()
        try:
            case.call_and_validate(headers=headers, checks=CHECKS)
        finally:
            transaction.savepoint_rollback(savepoint)

    each()
