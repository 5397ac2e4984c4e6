"""A person's data as a file, and their account without the person.

The file is whatever refers to them anywhere in the database, save secrets. Erasing leaves what others need: answers
stay, under the pseudonym of their campaign, with an account that has no name, no address and no way to sign in. The
audit log keeps the names that acts were done under; it is a record, and nobody can change it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from accounts.ids import new_public_id
from accounts.models import ApiToken, Invitation, SiteRole, User
from accounts.people import change_role, set_active
from labeling.audit import record
from labeling.models import Chat, ChatTurn, LapsedLease, Membership, Slot, Webhook

SECRETS: dict[type[Any], set[str]] = {
    User: {"password"},
    ApiToken: {"digest"},
    Invitation: {"digest"},
    Authenticator: {"data"},
    Webhook: {"secret"},
    Slot: {"lease"},
    LapsedLease: {"lease"},
    Chat: {"a", "b"},  # who votes is never told which models these are
}


def personal_data(user: User) -> Iterator[str]:
    """JSON lines `{"what", ...}`: the account, then every row that refers to it."""
    yield _line("account", next(_rows(User, "pk", user)))
    relations: list[Any] = User._meta.get_fields(include_hidden=True)
    for relation in relations:
        if relation.auto_created and not relation.concrete:
            model = relation.related_model
            for row in _rows(model, relation.field.name, user):
                yield _line(str(model._meta.verbose_name), row)
    for row in _rows(ChatTurn, "chat__user", user):
        yield _line("chat turn", row)


def _rows(model: Any, field: str, user: User) -> Iterator[dict[str, Any]]:
    shown = [column.attname for column in model._meta.concrete_fields if column.name not in SECRETS.get(model, ())]
    yield from model._base_manager.filter(**{field: user.pk}).order_by("pk").values(*shown).iterator()


def _line(what: str, row: dict[str, Any]) -> str:
    return json.dumps({"what": what, **row}, cls=DjangoJSONEncoder, ensure_ascii=False, default=str) + "\n"


@transaction.atomic
def erase(user: User, *, by: User | None = None) -> None:
    """Take the person out of their account. Nothing brings them back; what they hold is free when its lease ends.

    Raises LastAdmin.
    """
    set_active(user, False, by=by)
    change_role(user, SiteRole.ANNOTATOR, by=by)
    for model in (ApiToken, Authenticator, EmailAddress, Membership):
        model._base_manager.filter(user=user).delete()
    Invitation.objects.filter(accepted_by=user).update(email="")
    user.username, user.email, user.first_name, user.last_name = f"erased-{new_public_id()}", "", "", ""
    user.last_login = None
    user.set_unusable_password()
    user.save()
    record(by, "person.erase", user.username)
