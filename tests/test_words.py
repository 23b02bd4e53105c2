"""Words of messages: plurals, and the nearest known name."""

from __future__ import annotations

import ast
import re

import pytest
from checkout import ROOT

from flowpipe.words import (
    agree_verb,
    byte_size,
    count_noun,
    did_you_mean,
    nearest_names,
    unknown_name,
)


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("video",), "0 videos"),
        (1, ("video",), "1 video"),
        (2, ("video",), "2 videos"),
        (1, ("class", "classes"), "1 class"),
        (3, ("class", "classes"), "3 classes"),
    ],
)
def test_counts_agree_with_their_noun(count, words, said):
    assert count_noun(count, *words) == said


def test_verbs_agree_with_their_count():
    assert [agree_verb(k, "is", "are") for k in range(3)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"),
        (999_951, "1.0 MB"), (2.5e9, "2.5 GB"), (4.2e15, "4200.0 TB"),
    ],
)  # fmt: skip
def test_bytes_have_a_unit_that_suits_them(count, said):
    assert byte_size(count) == said


def test_an_id_without_its_extension_suggests_the_whole_id():
    ids = ["walk/ab.mp4", "walk/a.mp4", "walk/a.avi", "b.mp4"]
    assert nearest_names("walk/a", ids, most=2) == ["walk/a.mp4", "walk/a.avi"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("corupt", "corrupt"), ("MISSING", "missing"), ("memory", "out_of_memory")]
)
def test_the_nearest_name_is_suggested(typed, meant):
    known = ("missing", "corrupt", "out_of_memory")
    assert did_you_mean(typed, known) == f"did you mean {meant}?"


def test_where_none_is_near_all_are_listed():
    assert did_you_mean("xyz", ("a", "b")) == "known: a, b"
    assert unknown_name("split", "xyz", ()) == "split 'xyz' is unknown; known: none"


def test_few_names_are_listed_beside_the_suggestion():
    assert unknown_name("--device", "gpu", ("cpu", "cuda")) == (
        "--device 'gpu' is unknown; did you mean cpu? known: cpu, cuda"
    )
    many = [f"name{k}" for k in range(100)]
    assert unknown_name("name", "nome7", many) == "name 'nome7' is unknown; did you mean name7?"
    assert unknown_name("name", "xyz", many).endswith("name29 ...")


def test_many_names_are_searched_in_bounded_time():
    many = [f"folder/clip-{k:07d}.mp4" for k in range(200_000)]
    assert nearest_names("clip-0000042", many) == ["folder/clip-0000042.mp4"]


NOUNS = (
    "video|frame|image|shard|file|class name|id|part|pair|problem|check|worker|folder|split|name|"
    "score|weighting|warning|span|stream|sample|epoch|GPU|weight|row|line|label|crop|snippet|step|"
    "field|packet|timestamp|channel|column|byte|path|core|number|process(?=es)|class(?=es)|"
    "stretch(?=es)|match(?=es)|pass(?=es)"
)
PLURAL = re.compile(rf" (?:[a-z]+ )?(?:{NOUNS})e?s\b|.*\(s\)")


ALLOWED = {
    "{frames} frames are missing and ": "damage of one or two frames is no error",
    "{len(self.shards)} shards>": "a __repr__",
    "{len(self.videos)} videos in ": "a __repr__",
    "{len(self.clips)} samples of split ": "a __repr__",
    "{len(pts)} frames want ": "a bug of the caller, which no user meets",
    "{len(shard.pts_s)} timestamps": "an empty shard is never published",
    "{len(pts)} timestamps must be finite and strictly increasing": "one is always increasing",
    "{len(ids)} ids and scores of ": "a bug of the caller, which no user meets",
    "{most_bytes} bytes it may have": "a limit of thousands",
    "{length} bytes: ": "above a limit of hundreds",
    "{count} bytes at ": "a table, which has more",
}


def counts_without_their_noun(source: str) -> list[str]:
    """Return the f-strings in which a plural follows a value that `count_noun` has not made."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            name = ast.unparse(value.value)
            count = "join(" not in name and re.search(
                r"len\(|count|\.sum\(|length|complete|expected|_bytes$|^(videos|frames|images|files|"
                r"workers|channels|cores|width|height|done|old|new)$|\.channels$",
                name,
            )
            if PLURAL.match(text.value) and count and not name.startswith("count_noun("):
                found.append(f"{node.lineno}: {{{name}}}{text.value}")
    return found


def test_the_search_for_counts_finds_them():
    assert counts_without_their_noun('f"{stream.snippet_length} images a snippet"')
    assert counts_without_their_noun('f"{len(a)} videos are here"') == [
        "1: {len(a)} videos are here"
    ]
    assert counts_without_their_noun('f"{count} test videos"') and not counts_without_their_noun(
        "f\"{count_noun(count, 'video')} and {count} of them\""
    )


def test_every_count_in_a_message_agrees_with_its_noun():
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "flowpipe").rglob("*.py"))
        for line in counts_without_their_noun(path.read_text(encoding="utf-8"))
        if line.partition(": ")[2] not in ALLOWED
    }
    assert found == set()


EXAMPLE = re.compile(r", as (?=``|\"?\d|[a-z]\w*=|[a-z0-9]+://|\w+\.(?:pt|txt|h5|yaml|png)\b|`\d)")
"""``as`` before a literal that is an example."""


def test_examples_follow_such_as():
    assert EXAMPLE.search("a URL, as s3://") and not EXAMPLE.search("of 16, as the paper does")
    found = {
        f"{path.relative_to(ROOT)}:{k}: {line.strip()}"
        for path in (*(ROOT / "flowpipe").rglob("*.py"), *(ROOT / "docs").glob("*.md"))
        for k, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if EXAMPLE.search(line)
    }
    assert not found
