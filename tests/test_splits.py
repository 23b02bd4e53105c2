"""Names of splits, and the split that each phase takes."""

from __future__ import annotations

import pytest

from flowpipe import splits


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("train", "train1"), ("Training", "train1"), ("train2", "train2"), ("train_3", "train3"),
        ("val", "val1"), ("VALID", "val1"), ("validation2", "val2"), ("test", "test1"),
        ("testing", "test1"), ("fold3", "fold3"), ("tests", "tests"), ("", ""),
        ("train1b", "train1b"),
    ],
)  # fmt: skip
def test_a_name_of_a_split_has_one_form(name: str, wanted: str) -> None:
    assert splits.split_name(name) == wanted
    assert splits.split_name(wanted) == wanted


@pytest.mark.parametrize(
    ("names", "validated", "tested", "all_tested"),
    [
        (["test1", "train1"], "test1", "test1", ("test1",)),
        (["train1", "val1"], "val1", "val1", ("val1",)),
        (["test1", "train1", "val1"], "val1", "test1", ("test1",)),
        (["test2", "val1"], "val1", "val1", ("val1", "test2")),
        (["test1", "test10", "test2"], "test1", "test1", ("test1", "test2", "test10")),
        (["train", "test"], "test1", "test1", ("test",)),  # of stores of older versions
        (["a", "train1"], "test1", "test1", ()),
    ],
)
def test_each_phase_takes_its_split(
    names: list[str], validated: str, tested: str, all_tested: tuple[str, ...]
) -> None:
    assert splits.validation_split(names, 1) == validated
    assert splits.test_split(names, 1) == tested
    assert splits.test_splits(names) == all_tested
