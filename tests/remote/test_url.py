"""URLs: which are accepted, and listing and reading through a real fsspec file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowpipe.datasets import DATASETS
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError, RemoteError, UsageError
from flowpipe.remote import (
    Url,
    file_facts,
    files_below,
    is_url,
    open_path_or_url,
    parse_path_or_url,
    stat_urls,
)


def test_only_what_has_a_scheme_is_a_url() -> None:
    assert is_url("s3://bucket/key") and is_url("file:///x") and is_url("gs://b")
    for path in ("/a/b", "a://", "clips/s3:/b", "C:\\x", "", "1s3://b"):
        assert not is_url(path) or path == "a://"
    assert parse_path_or_url("s3://bucket/folder/") == "s3://bucket/folder"
    assert isinstance(parse_path_or_url("s3://bucket"), Url)
    assert parse_path_or_url("/a/b") == Path("/a/b") and parse_path_or_url(Path("x")) == Path("x")
    assert Url("s3://b/folder/list.csv").parent == "s3://b/folder"


@pytest.mark.parametrize(
    "url",
    ["https://host/a.mp4?X-Amz-Signature=5ec2e7", "ftp://user:5ec2e7@host/a", "http://h/x?5ec2e7"],
)
def test_urls_with_secrets_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="password or a query") as caught:
        parse_path_or_url(url)
    assert "5ec2e7" not in str(caught.value)


def test_schemes_that_are_not_available_say_what_to_install() -> None:
    with pytest.raises(UsageError, match="gcsfs"):
        Url("gs://bucket/x").exists()
    with pytest.raises(UsageError, match="nosuch"):
        Url("nosuch://bucket/x").exists()
    with pytest.raises(UsageError, match="chained URLs"):
        Url("zip://x::s3://bucket/a.zip").exists()


@pytest.fixture
def served(tmp_path: Path) -> tuple[Path, Url]:
    """A folder, and the same behind fsspec's file://."""
    for name in ("b/two.mp4", "a/one #[1]?%.mp4", ".hidden/x.mp4", "a/.part.mp4", "list.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path, Url(f"file://{tmp_path}")


def test_files_are_listed_with_their_facts(served: tuple[Path, Url]) -> None:
    folder, url = served
    assert files_below(url) == ["a/one #[1]?%.mp4", "b/two.mp4", "list.txt"]
    local = (folder / "b/two.mp4").stat()
    facts = file_facts(f"{url}/b/two.mp4")
    assert facts.bytes == local.st_size and facts.regular
    assert facts == file_facts(f"{url}/b/two.mp4")
    assert file_facts(str(folder / "b/two.mp4")).bytes == facts.bytes
    with open_path_or_url(f"{url}/a/one #[1]?%.mp4") as file:
        assert file.read() == b"a/one #[1]?%.mp4"
    assert url.is_dir() and url.exists() and not url.is_file()
    with pytest.raises(RemoteError) as caught:
        file_facts(f"{url}/gone.mp4")
    assert caught.value.reason == "missing"
    stat_urls([f"{url}/gone.mp4", f"{url}/list.txt", "/local/path"])  # raises nothing


def test_a_tree_and_a_data_set_are_read_as_from_a_folder(served: tuple[Path, Url]) -> None:
    folder, url = served
    here, there = FileTree.read(folder), FileTree.read(url)
    assert here.files == there.files
    assert there.path("b/two.mp4") == f"{url}/b/two.mp4"
    assert FileTree.from_path(Url(f"{url}/list.txt")).read_text("list.txt") == "list.txt"
    local, remote = DATASETS["folder"].load(folder), DATASETS["folder"].load(url)
    assert local.class_names == remote.class_names
    assert [r.video_id for r in local.records] == [r.video_id for r in remote.records]
    (folder / "names.txt").write_text("b\na\n")
    named = DATASETS["folder"].load(url, class_names=Url(f"{url}/names.txt"))
    assert named.class_names == ("b", "a")
    with pytest.raises(DatasetError, match="no files|does not exist"):
        FileTree.read(Url(f"{url}/nowhere"))


def test_a_list_names_urls_and_names_beside_it(served: tuple[Path, Url]) -> None:
    folder, url = served
    (folder / "list.csv").write_text(f"path,label\nb/two.mp4,x\n{url}/a/y.mp4,y\n/local.mp4,x\n")
    paths = [r.path for r in DATASETS["list"].load(Url(f"{url}/list.csv")).records]
    assert paths == [f"{url}/b/two.mp4", f"{url}/a/y.mp4", "/local.mp4"]
    assert [r.path for r in DATASETS["list"].load(folder / "list.csv").records][1] == paths[1]
    (folder / "list.csv").write_text("path\nhttp://u:p@h/a.mp4\n")
    with pytest.raises(UsageError, match="password"):
        DATASETS["list"].load(folder / "list.csv")
