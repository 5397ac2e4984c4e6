"""Changing who may do what on the site. One active admin always remains."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import SiteRole, User
from labeling.audit import record


class LastAdmin(Exception):
    """The change would leave the site without an active admin."""

    def __init__(self) -> None:
        super().__init__(_("This is the last active admin. Make somebody else an admin first."))


@transaction.atomic
def change_role(user: User, role: str, *, by: User | None = None) -> None:
    """Give the person another site role. Raises LastAdmin."""
    _change(user, role=role, is_superuser=False)
    record(by, "person.role", user.username, role=role)


@transaction.atomic
def set_active(user: User, active: bool, *, by: User | None = None) -> None:
    """Deactivated people cannot sign in; their sessions, sockets and tokens stop at once. What they gave stays."""
    _change(user, is_active=active)
    record(by, "person.active", user.username, active=active)


@transaction.atomic
def _change(user: User, **fields: object) -> None:
    # Locked in a fixed order, so that of two admins who demote each other at once one is refused.
    admins = User.objects.select_for_update().filter(is_active=True, role=SiteRole.ADMIN).order_by("pk")
    others = [admin for admin in admins if admin.pk != user.pk]
    for name, value in fields.items():
        setattr(user, name, value)
    if not user.is_site_admin and not others:
        raise LastAdmin
    user.save(update_fields=list(fields))
