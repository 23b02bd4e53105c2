"""Words of messages: plurals, and the nearest known name."""

from __future__ import annotations

import pytest

from flowpipe.words import counted, did_you_mean, near


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
    assert counted(count, *words) == said


def test_an_id_without_its_extension_suggests_the_whole_id():
    ids = ["walk/ab.mp4", "walk/a.mp4", "walk/a.avi", "b.mp4"]
    assert near("walk/a", ids, most=2) == ["walk/a.mp4", "walk/a.avi"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("corupt", "corrupt"), ("MISSING", "missing"), ("memory", "out_of_memory")]
)
def test_the_nearest_name_is_suggested(typed, meant):
    known = ("missing", "corrupt", "out_of_memory")
    assert did_you_mean(typed, known) == f"did you mean {meant}?"


def test_where_none_is_near_all_are_listed():
    assert did_you_mean("xyz", ("a", "b")) == "known: a, b"
    assert did_you_mean("xyz", ("a", "b"), listed="") == ""


def test_many_names_are_searched_in_bounded_time():
    many = [f"folder/clip-{k:07d}.mp4" for k in range(200_000)]
    assert near("clip-0000042", many) == ["folder/clip-0000042.mp4"]
