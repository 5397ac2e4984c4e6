"""Bearer tokens for the API. Only the SHA-256 of a token is stored; the token is random, so no salt is needed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request

from accounts.models import ApiToken, Scope, User
from config.postgres.rows import columns, read_one
from labeling.audit import record

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, to know how people sign in


TOKEN = f"""
SELECT {columns(ApiToken, "token")}, {columns(User, "person")}
FROM accounts_apitoken token JOIN accounts_user person ON person.id = token.user_id WHERE digest = %(digest)s
"""


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(user: User, *, name: str, days: int = 90, scope: str = Scope.MANAGE) -> tuple[ApiToken, str]:
    """A new token row and the token itself, which cannot be shown again."""
    token = "pf_" + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        user=user,
        name=name,
        digest=digest_of(token),
        hint=token[:8],
        scope=scope,
        expires_at=timezone.now() + timedelta(days=days),
    )
    record(user, "token.create", name, scope=str(scope), days=days)
    return row, token


def revoke_token(user: User, token_id: int) -> bool:
    """Make one of the person's tokens useless. False if there is none to revoke."""
    row = ApiToken.objects.filter(user=user, pk=token_id, revoked_at=None).first()
    if row is None:
        return False
    row.revoked_at = timezone.now()
    row.save(update_fields=["revoked_at"])
    record(user, "token.revoke", row.name)
    return True


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer pf_...`"""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = read_one(TOKEN, {"digest": digest_of(token.strip())}, ApiToken, User)
        if found is None or not found[0].is_usable or not found[1].is_active:
            raise AuthenticationFailed("This token is unknown, expired or revoked.")
        row, user = found
        now = timezone.now()
        if row.last_used_at is None or now - row.last_used_at > timedelta(minutes=1):
            ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
        return user, row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class WithinScope(IsAuthenticated):
    """Signed in, and where a token is: within its scope. A view's `scope` is what changing something there needs."""

    def needed(self, request: Request, view: APIView) -> Scope:
        return Scope.READ if request.method in SAFE_METHODS else getattr(view, "scope", Scope.MANAGE)

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        needed = self.needed(request, view)
        if isinstance(request.auth, ApiToken) and not request.auth.covers(needed):
            raise PermissionDenied(f"This token may not: its scope is {request.auth.scope}, this needs {needed}.")
        return True


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI schema describes these tokens; registers itself by being defined."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
