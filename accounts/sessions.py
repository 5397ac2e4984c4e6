"""Sessions and their people, as Django keeps and checks them, read without building a query for each request."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import User
from config.postgres.rows import columns, read_one

SESSION = "SELECT {} FROM django_session session WHERE session_key = %(key)s AND expire_date > %(now)s"
PERSON = "SELECT {} FROM accounts_user person WHERE id = %(id)s"


class SessionStore(db.SessionStore):
    """`SESSION_ENGINE = "accounts.sessions"`"""

    def _get_session_from_db(self) -> Session | None:
        key = self.session_key or ""
        # A cookie can hold anything, also what PostgreSQL takes for no text.
        found = key.isalnum() and read_one(
            SESSION.format(columns(Session, "session")), {"key": key, "now": timezone.now()}, Session
        )
        if not found:
            self._session_key = None  # as Django does: an unknown key is not taken over
            return None
        session: Session = found[0]
        return session


class Backend(AuthenticationBackend):
    """Signs in as allauth does."""

    def get_user(self, user_id: Any) -> User | None:
        found = read_one(PERSON.format(columns(User, "person")), {"id": user_id}, User)
        return found[0] if found and self.user_can_authenticate(found[0]) else None
