"""Whose request it is: session and user, read by prepared statements, because every request of everybody needs both."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import User
from config.postgres.rows import columns, read_one

SESSION = f"""
SELECT {columns(Session, "session")} FROM django_session session
WHERE session_key = %(key)s AND expire_date > %(now)s
"""
USER = f"SELECT {columns(User, 'person')} FROM accounts_user person WHERE id = %(id)s"


class SessionStore(db.SessionStore):
    """`SESSION_ENGINE`: Django's sessions in the database."""

    def _get_session_from_db(self) -> Session | None:
        row = read_one(SESSION, {"key": self.session_key, "now": timezone.now()}, Session)
        if row is None:
            self._session_key = None
            return None
        session: Session = row[0]
        return session


class Backend(AuthenticationBackend):
    """`AUTHENTICATION_BACKENDS`: allauth's."""

    def get_user(self, user_id: Any) -> User | None:
        row = read_one(USER, {"id": user_id}, User)
        return row[0] if row and self.user_can_authenticate(row[0]) else None
