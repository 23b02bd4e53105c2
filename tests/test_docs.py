"""README and docs: links resolve, pages open with their purpose, every code is explained."""

from __future__ import annotations

import re

import click
import pytest
from checkout import ROOT

from flowpipe.cli import cli
from flowpipe.errors import REASONS, RETRIED
from flowpipe.experimental import EXPERIMENTAL, describe_experimental
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


PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "kernels").rglob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"), ROOT / "flowpipe" / "store" / "FORMAT.md",
    ]
)  # fmt: skip


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_page_opens_with_its_purpose(path) -> None:
    title, _, text = path.read_text(encoding="utf-8").partition("\n\n")
    assert title.startswith("# ") and text.startswith("This page "), title


def test_the_readme_is_short_and_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert set(cli.list_commands(click.Context(cli))) <= set(
        re.findall(r"`(?:flowpipe )?(\w+)", text)
    )


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if path.name != "CONTRIBUTING.md"],  # it lists them
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_page_uses_a_private_metaphor(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"\b(?:ladders?|rungs?|loans?|lent|breadcrumbs?|anew)\b", text, re.I)


NOT_EXPLAINED = ("gpu-node.md", "gpu-roofline.md", "troubleshooting.md")
"""Models, which say that nothing was measured, and rows of a table of errors."""
PLACE = {"cuda": "--device cuda", "nvdec": "--decoder nvdec", "opencv_cuda_*": "opencv_cuda_"}
"""Experimental feature -> text by which a page speaks of it."""


def test_one_table_lists_the_experimental_features() -> None:
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (.+?) \| .+ \|$", text.partition("## GPU figures")[2], re.M)
    assert dict(rows) == EXPERIMENTAL and PLACE.keys() >= EXPERIMENTAL.keys()


@pytest.mark.parametrize("feature", sorted(EXPERIMENTAL))
def test_pages_that_explain_an_experimental_feature_link_to_the_table(feature: str) -> None:
    found = 0
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]):
        text = path.read_text(encoding="utf-8")
        if PLACE[feature] in text and path.name not in ("figures.md", *NOT_EXPLAINED):
            assert re.search(r"experimental.*\n?.*figures\.md#gpu-figures", text, re.I), path.name
            found += 1
    assert found >= 2


@pytest.mark.parametrize(
    ("command", "option", "feature"),
    [
        ("extract", "--decoder", "nvdec"), ("extract", "--device", "cuda"),
        ("plan", "--device", "cuda"), ("flow", "--flow", "opencv_cuda_*"),
        ("flow", "--device", "cuda"), ("bench flow", "--device", "cuda"),
    ],
)  # fmt: skip
def test_help_marks_what_is_experimental(command: str, option: str, feature: str) -> None:
    found, context = cli, click.Context(cli)
    for word in command.split():
        found = found.get_command(context, word)
    (help_text,) = [row.help for row in found.params if option in row.opts]
    assert describe_experimental(feature) in help_text
    assert ("experimental" in help_text) == (feature in EXPERIMENTAL)
