"""`manage.py import_items CAMPAIGN FILE...`: the public import, from a terminal."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from labeling.data.importing import ImportFailed, import_file
from labeling.models import Campaign


class Command(BaseCommand):
    help = "Import items from JSON, CSV or Parquet, plain, gzip or zstd. Bad lines are listed, good lines are kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", help="The campaign's id, as in its address.")
        parser.add_argument("files", nargs="+", metavar="FILE", help="A file, or - for standard input.")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(public_id=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign {options['campaign']}.")
        rejected = sum(self.import_one(campaign, file) for file in options["files"])
        if rejected:
            raise CommandError(f"{rejected} lines were refused.")

    def import_one(self, campaign: Campaign, file: str) -> int:
        try:
            if file == "-":
                record = import_file(campaign, sys.stdin.buffer, name="standard input")
            else:
                with Path(file).open("rb") as opened:
                    record = import_file(campaign, opened, name=Path(file).name)
        except (OSError, ImportFailed) as error:
            raise CommandError(f"{file}: {error}") from None
        for refused in record.errors:
            self.stderr.write(f"{file}, line {refused['line']}: {refused['reason']}")
        self.stdout.write(
            f"{file}: {record.accepted} lines accepted, {record.duplicates} known already, "
            f"{record.rejected} refused; {record.rankings} rankings."
        )
        return record.rejected
