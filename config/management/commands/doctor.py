from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.doctor import examine


class Command(BaseCommand):
    help = "Say what is wrong with this set-up, and what to change."
    requires_system_checks: list[str] = []  # what they find is what this explains

    def handle(self, *args: Any, **options: Any) -> None:
        broken = 0
        for fine, findings in examine().items():
            if not findings:
                self.stdout.write(f"ok       {fine}")
            for finding in findings:
                self.stdout.write(f"{'BROKEN  ' if finding.broken else 'warning '} {finding.what}")
                self.stdout.write(f"         -> {finding.change}")
                broken += finding.broken
        if broken:
            raise CommandError("It cannot work like this." if broken == 1 else f"{broken} things are broken.")
