"""What every view of the JSON API shares: who asks, one form of refusals, pages.

Refusals have one shape, `{"detail": sentence}`. What a person may not know of is 404.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Scope, User
from accounts.tokens import WithinScope

CURSOR = OpenApiParameter("cursor", str, description="From `next` or `previous` of another page.")


class Refusal(APIException):
    """A refusal of a topic module, as a response."""

    def __init__(self, error: Exception, code: int) -> None:
        super().__init__(str(error))
        self.status_code = code


class NewestFirst(CursorPagination):
    """Keyset pages: page 1,000 costs as much as page 1."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class OldestFirst(NewestFirst):
    ordering = "id"


class ApiView(APIView):
    """A view with one policy, and the scope that a token needs. `refusals` maps errors of topic modules to codes."""

    policy: ClassVar[str]
    scope: ClassVar[Scope] = Scope.MANAGE
    refusals: ClassVar[dict[type[Exception], int]] = {}

    @property
    def user(self) -> User:
        """Who asks; permissions have let nobody else through."""
        if not isinstance(self.request.user, User):
            raise Http404
        return self.request.user

    def handle_exception(self, exc: Exception) -> Response:
        code = next((code for kind, code in self.refusals.items() if isinstance(exc, kind)), None)
        if code is not None:
            exc = Refusal(exc, code)
        elif isinstance(exc, ValidationError):
            exc = ValidationError({"detail": sentence(exc.detail)})
        return super().handle_exception(exc)

    def valid(self, serializer: Any, **options: Any) -> dict[str, Any]:
        """The checked body of the request. Raises ValidationError."""
        checked = serializer(data=self.request.data, **options)
        checked.is_valid(raise_exception=True)
        data: dict[str, Any] = checked.validated_data
        return data

    def page(self, rows: Any, serializer: Any, paginator: CursorPagination | None = None) -> Response:
        """One page of rows, with links to the next and the previous one."""
        paginator = paginator or NewestFirst()
        found: Any = paginator.paginate_queryset(rows, self.request)
        return paginator.get_paginated_response(serializer(found, many=True).data)


class IsSiteAdmin(WithinScope):
    """Signed in (401 otherwise) and an admin (404 otherwise: who is none need not know what is here)."""

    def needed(self, request: Request, view: APIView) -> Scope:
        return Scope.ADMIN

    def has_permission(self, request: Request, view: APIView) -> bool:
        if isinstance(request.user, User) and not request.user.is_site_admin:
            raise Http404
        return super().has_permission(request, view)


@cache  # one component of the schema for each
def page_of(serializer: type[serializers.BaseSerializer[Any]]) -> Any:
    """How the schema describes a page of these."""
    name = serializer.__name__.removesuffix("Serializer")
    link = serializers.URLField(allow_null=True)
    return inline_serializer(f"{name}Page", {"next": link, "previous": link, "results": serializer(many=True)})


def add_refusals(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Let the schema say of every operation how it refuses."""
    result["components"]["schemas"]["Error"] = {
        "type": "object",
        "properties": {"detail": {"type": "string", "description": "One sentence that says why."}},
        "required": ["detail"],
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["4XX"] = {"description": "Refused.", "content": content}
    return result


def sentence(detail: Any, where: str = "") -> str:
    """The first problem of a refused request, with the field that has it."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        return sentence(inner, f"{where}{name}: ")
    if isinstance(detail, list):
        return sentence(next(inner for inner in detail if inner), where)
    return f"{where}{detail}"
