"""Bearer tokens for the API. Only the SHA-256 of a token is stored; the token is random, so no salt is needed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiToken, User


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(user: User, *, name: str, days: int = 90) -> tuple[ApiToken, str]:
    """A new token row and the token itself, which cannot be shown again."""
    token = "pf_" + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        user=user,
        name=name,
        digest=digest_of(token),
        hint=token[:8],
        expires_at=timezone.now() + timedelta(days=days),
    )
    return row, token


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer pf_...`"""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        row = ApiToken.objects.select_related("user").filter(digest=digest_of(token.strip())).first()
        if row is None or not row.is_usable or not row.user.is_active:
            raise AuthenticationFailed("This token is unknown, expired or revoked.")
        now = timezone.now()
        if row.last_used_at is None or now - row.last_used_at > timedelta(minutes=1):
            ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI schema describes these tokens; registers itself by being defined."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
