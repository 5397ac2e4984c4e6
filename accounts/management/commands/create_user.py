"""`manage.py create_user NAME --role admin`: the first admin, or anybody. Asks for the password, or reads a pipe."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.models import SiteRole, User


class Command(BaseCommand):
    help = "Make an account. The password is asked for, or read as one line from standard input."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--email", default="")
        parser.add_argument("--role", choices=SiteRole.values, default=SiteRole.ANNOTATOR)

    def handle(self, *args: Any, **options: Any) -> None:
        user = User(username=options["username"], email=options["email"], role=options["role"])
        password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_password(password, user)
            user.set_password(password)
            user.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        user.save()
        self.stdout.write(f"{user.get_role_display()} {user} can sign in now.")
