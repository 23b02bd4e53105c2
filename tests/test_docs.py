"""docs/: every reason code and note of the code is explained, and nothing else is."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from flowpipe.errors import REASONS, RETRIED
from flowpipe.notes import NOTES

ROW = re.compile(r"^\| `(?P<code>[a-z_]+)`(?P<mark> \*)? \| (?P<cells>.+) \|$", re.M)


def rows(*headings: str) -> dict[str, tuple[str, list[str]]]:
    """Return the mark and the cells of each row below the headings, by code."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    found = [row for heading in headings for row in ROW.finditer(sections[heading])]
    assert len({row["code"] for row in found}) == len(found)
    return {row["code"]: (row["mark"] or "", row["cells"].split(" | ")) for row in found}


def test_every_reason_has_a_row_that_says_what_to_do() -> None:
    explained = rows("Reasons of videos", "Reasons of runs")
    assert set(explained) == set(REASONS)
    for code, (_, cells) in explained.items():
        assert len(cells) == 2 and all(cell.endswith(".") for cell in cells), code
        assert ("The next run tries it again." in cells[1]) == (code in RETRIED), code


def test_every_note_has_a_row_with_its_meaning() -> None:
    explained = rows("Notes of videos")
    assert set(explained) == set(NOTES)
    for code, (mark, cells) in explained.items():
        assert cells[0].casefold() == f"{NOTES[code].meaning}.".casefold(), code
        assert bool(mark) == NOTES[code].reported, code


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_readme_links_to_every_page(page: str) -> None:
    assert f"(docs/{page})" in (ROOT / "README.md").read_text(encoding="utf-8")
