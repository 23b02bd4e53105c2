""".flo files: the bytes of the Middlebury format, real files, and refusals."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flowpipe.errors import FormatError, UsageError
from flowpipe.flow.flo import read_flo, write_flo

FLOWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.just(2)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


def header(width: int, height: int, tag: bytes = b"PIEH") -> bytes:
    return tag + struct.pack("<ii", width, height)


def test_the_bytes_are_those_of_the_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "x.flo"
    write_flo(path, np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    written = path.read_bytes()
    assert struct.unpack("<fii", written[:12]) == (202021.25, 3, 2)
    assert struct.unpack("<12f", written[12:]) == tuple(range(12))


@given(flow=FLOWS)
def test_a_file_returns_the_flow_that_was_written(flow, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round.flo"
    for laid_out in (flow, np.asfortranarray(flow)):
        write_flo(path, laid_out)
        again = read_flo(path)
        assert again.dtype == np.float32 and again.flags.c_contiguous and again.flags.writeable
        np.testing.assert_array_equal(again, flow)


def test_real_files_keep_every_byte(shared_data: Path, tmp_path: Path) -> None:
    truths = sorted((shared_data / "flow" / "middlebury").glob("*/flow10.flo"))
    if not truths:
        pytest.skip(f"needs the Middlebury pairs: none in {shared_data}")
    for truth in truths:
        flow = read_flo(truth)
        known = np.abs(flow).max(axis=2) < 1e9
        assert known.mean() > 0.9
        assert 0 < np.hypot(flow[..., 0], flow[..., 1])[known].max() < 40  # as published
        write_flo(tmp_path / "again.flo", flow)
        assert (tmp_path / "again.flo").read_bytes() == truth.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "starts with b''"),
        (b"\x89PNG and more of it", "starts with .*PNG"),
        (header(2, 2, b"HEIP") + bytes(32), "not b'PIEH'"),
        (b"PIEH\2\0", "ends inside its header, after 6 bytes"),
        (header(2, 3) + bytes(47), "has 59 bytes; a flow of 2x3 has 60"),
        (header(2, 3) + bytes(49), "has 61 bytes; a flow of 2x3 has 60"),
        (header(2, 3), "has 12 bytes"),
        (header(0, 3), "0 columns and 3 rows"),
        (header(-2, -3) + bytes(48), "-2 columns"),
        (header(2**31 - 1, 2**31 - 1) + bytes(48), "wanted 1 to 99999"),
    ],
)
def test_a_file_that_is_no_flow_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.flo"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=words) as caught:
        read_flo(path)
    assert "x.flo" in str(caught.value) and caught.value.reason == "format"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "x.flo", tmp_path):
        with pytest.raises(FormatError, match="flow .* cannot be read") as caught:
            read_flo(path)
        assert str(path) in str(caught.value) and caught.value.reason == "missing"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 2)),
        np.zeros((2, 3, 3), np.float32),
        np.zeros((2, 3), np.float32),
        np.zeros((0, 3, 2), np.float32),
        np.zeros((1, 100_000, 2), np.float32),
    ],
    ids=["float64", "three channels", "one channel", "no rows", "too wide"],
)
def test_arrays_that_are_no_flow_are_not_written(wrong, tmp_path):
    with pytest.raises(ValueError, match="flow must"):
        write_flo(tmp_path / "x.flo", wrong)
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    flow = np.ones((3, 4, 2), np.float32)
    write_flo(tmp_path / "x.flo", flow)
    write_flo(tmp_path / "x.flo", 2 * flow)  # an existing file is replaced
    assert [path.name for path in tmp_path.iterdir()] == ["x.flo"]
    np.testing.assert_array_equal(read_flo(tmp_path / "x.flo"), 2 * flow)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "x.flo", tmp_path / "folder"):
        with pytest.raises(UsageError, match="flow .* cannot be written"):
            write_flo(path, flow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.flo"]
