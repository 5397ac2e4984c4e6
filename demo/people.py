"""Bring the database up to date and make the demo's accounts: `python -m demo.people < people.json`.

Reads [{"username", "password", "role"}, ...]. Accounts that exist keep what they have and get the new password, so a
second demo on the same database can sign in. Passwords come by standard input, where no process list shows them.
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.core.management import call_command


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from accounts.models import User

    call_command("migrate", verbosity=0, interactive=False)
    for person in json.load(sys.stdin):
        user, _ = User.objects.get_or_create(username=person["username"])
        user.role = person["role"]
        user.is_staff = user.is_superuser = person["role"] == "admin"
        user.set_password(person["password"])
        user.save(update_fields=["role", "is_staff", "is_superuser", "password"])


if __name__ == "__main__":
    main()
