"""List files: each documented form is read, and each mistake is named with its line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.errors import DatasetError

load = DATASETS["list"].load


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "list.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    return write


def test_a_list_of_paths_is_read(write, tmp_path):
    dataset = load(write('b.mp4\n\n# a comment\n/data/a b.avi\nsub dir/it\'s "c".mkv\n'))
    assert [r.video_id for r in dataset.records] == [
        "b.mp4",
        "data/a b.avi",
        'sub dir/it\'s "c".mkv',
    ]
    assert [r.path for r in dataset.records] == [
        str(tmp_path / "b.mp4"), "/data/a b.avi", str(tmp_path / "sub dir/it's \"c\".mkv")
    ]  # fmt: skip
    assert dataset.class_names == ()


def test_a_name_may_begin_with_a_hash(write):
    # HMDB51 has such names.
    dataset = load(write("#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi\n# comment\n#\n"))
    assert [r.video_id for r in dataset.records] == ["#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"]


@pytest.mark.parametrize("line", ["v/a b.mp4 3", "v/a b.mp4 120 3", "v/a b.mp4\t120   3  "])
def test_lines_with_labels_and_lines_of_tsn_are_read(write, line):
    (record,) = load(write(line + "\n")).records
    assert (record.video_id, record.labels) == ("v/a b.mp4", (3,))


def test_numeric_labels_get_class_names(write):
    names = write("1 Wave\n2 Sit Up\r\n", "classInd.txt")
    dataset = load(write("a.mp4 1\nb.mp4 0\n"), class_names=names)
    assert dataset.class_names == ("Wave", "Sit Up")
    assert [r.labels for r in dataset.records] == [(1,), (0,)]
    assert load(write("a.mp4 2\n")).class_names == ("0", "1", "2")
    with pytest.raises(DatasetError, match=r"list\.txt:1: label 2 is too large, wanted 0 to 1"):
        load(write("a.mp4 2\n"), class_names=names)


def test_a_path_that_ends_in_a_number_goes_in_quotes(write, tmp_path):
    records = load(write('"take 2" 0\n"take 3" 1\n')).records
    assert [Path(r.path).name for r in records] == ["take 2", "take 3"]
    assert [r.labels for r in records] == [(0,), (1,)]


def test_windows_line_ends_and_a_byte_order_mark_are_read(write):
    dataset = load(write(b"\xef\xbb\xbfa.mp4 0\r\nb.mp4 1\r\n"))
    assert [r.video_id for r in dataset.records] == ["a.mp4", "b.mp4"]
    assert [r.labels for r in dataset.records] == [(0,), (1,)]


def test_names_that_are_no_utf8_reach_their_file(write, tmp_path):
    (record,) = load(write(b"caf\xe9.mp4\n")).records
    assert os.fsencode(record.path) == os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    assert record.video_id == "caf\\xe9.mp4"


def test_a_csv_is_read_by_its_header(write, tmp_path):
    dataset = load(
        write(
            "label,path,video_id,split\r\n"
            'wave,"a, b.mp4",one,train1 test2\r\n'
            "sit up,/abs/c.mp4,two,\r\n"
            ",d.mp4,three,test1\r\n",
            "list.csv",
        )
    )
    assert dataset.class_names == ("sit up", "wave")
    one, two, three = dataset.records
    assert (one.video_id, one.path) == ("one", str(tmp_path / "a, b.mp4"))
    assert (one.labels, one.splits) == ((1,), ("train1", "test2"))
    assert (two.path, two.labels, two.splits) == ("/abs/c.mp4", (0,), ())
    assert three.labels == ()


def test_a_csv_may_have_paths_alone_or_numeric_labels(write):
    assert [r.video_id for r in load(write("path\nx/a.mp4\n")).records] == ["x/a.mp4"]
    dataset = load(write("path,label\na.mp4,10\nb.mp4,2\n"))
    assert [r.labels for r in dataset.records] == [(10,), (2,)]
    assert len(dataset.class_names) == 11


def test_ids_of_a_csv_stay_as_written(write):
    dataset = load(write("video_id,path\nC:\\take,a.mp4\n../../etc/passwd,b.mp4\n"))
    assert [r.video_id for r in dataset.records] == ["C:\\take", "../../etc/passwd"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no video"),
        ("# only\n\n", "names no video"),
        ("a.mp4\nb.mp4\n./a.mp4\n", r"lines 1 and 3: a\.mp4"),
        ("video_id,path\nx,a.mp4\nx,b.mp4\n", "lines 2 and 3: x"),
        ("a.mp4 1\n\nb.mp4\n", r"list\.txt:3 reads as 'path', but line 1 as 'path label'"),
        ("a.mp4 300000\n", "if it is a number of frames"),
        ("video_id,label\nx,1\n", "without a path column"),
        ("path,colour\na.mp4,red\n", "column 'colour' is unknown; known: video_id, path"),
        ("path,path\na.mp4,b.mp4\n", "each once"),
        ("path,label\na.mp4,1\nb.mp4\n", r"list\.txt:3 has 1 column, wanted 2"),
        ("path,label\n,1\n", r"list\.txt:2"),
        ("video_id,path\n" + "x" * 241 + ",a.mp4\n", "1 to 240 bytes"),
        ("video_id,path\n,a.mp4\n", r"list\.txt:2: a video id must"),
        ("a.mp4\n".encode("utf-16"), "save the list as UTF-8"),
        (b"video_id,path\n\xff,a.mp4\n", "of UTF-8"),
    ],
)
def test_mistakes_are_named_with_file_and_line(write, text, message):
    path = write(text)
    with pytest.raises(DatasetError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(DatasetError, match="list .*nowhere.* cannot be read"):
        load(tmp_path / "nowhere.txt")
    with pytest.raises(DatasetError, match="list .* cannot be read"):
        load(tmp_path)


def test_files_of_one_stem_get_two_ids(write):
    assert [r.video_id for r in load(write("a.mp4\na.avi\n")).records] == ["a.mp4", "a.avi"]


def test_random_bytes_give_records_or_a_clear_error(write):
    random_bytes = random.Random(5)
    alphabet = [
        b"a",
        b"b.mp4",
        b" ",
        b'"',
        b",",
        b"\n",
        b"\r",
        b"path",
        b"label",
        b"1",
        b"#",
        b"\xff",
    ]
    for _ in range(500):
        text = b"".join(random_bytes.choices(alphabet, k=random_bytes.randrange(20)))
        try:
            dataset = load(write(text))
        except DatasetError:
            continue
        assert len({r.video_id for r in dataset.records}) == len(dataset.records)


def test_the_official_lists_of_ucf101_are_read(shared_data):
    for folder in ("ucf101_splits", "ucf101_lf"):
        path = next((shared_data / "annotations" / folder).rglob("trainlist01.txt"), None)
        if path is None:
            continue
        dataset = load(path)
        assert len(dataset.records) == 9537
        assert min(r.labels[0] for r in dataset.records) == 1  # published labels count from 1
        testlist = load(path.with_name("testlist01.txt"))
        assert len(testlist.records) == 3783
        assert {r.labels for r in testlist.records} == {()}
