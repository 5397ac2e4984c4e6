"""docs/formats.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from labeling.data.exporting import EXPORTS
from labeling.data.formats.registry import FORMATS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "formats.md"


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_page_has_every_format_that_is_read_in_the_order_in_which_they_are_tried():
    assert [row[:2] for row in table("In")] == [[f"`{name}`", format.title] for name, format in FORMATS.items()]


def test_the_page_has_every_export_with_its_containers():
    assert [row[:3] for row in table("Out")] == [
        [f"`{name}`", export.title, ", ".join(export.containers)] for name, export in EXPORTS.items()
    ]
