"""Videos at s3://, on a real server of this machine, are extracted like local ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from command import FAST, Run, draw_noise_clip, images, ledger
from videofile import encode_video

from flowpipe import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")
SECRET = "wJalrXUtnFEMIbPxRfiCY"


@dataclass
class Server:
    """An S3 server with one bucket."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @cached_property
    def client(self) -> Any:
        import boto3  # here, as it takes a second and every process collects this file

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def upload(self, folder: Path, prefix: str) -> str:
        """Put all files below a folder there; their URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.upload_file(str(path), "videos", name)
        return f"s3://videos/{prefix}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    for name in ("boto3", "moto", "s3fs"):
        pytest.importorskip(name, reason="needs moto, boto3 and s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until, "moto does not start"
                time.sleep(0.1)
        made = Server(process, port)
        made.client.create_bucket(Bucket="videos")
        yield made
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def account(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, and those that it starts, use the server."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Clips with names as HMDB51 has them, a broken one, and one that is cut in parts."""
    folder = tmp_path / "clips"
    for k, name in enumerate(("a/x_#1_[b]&(c)+;!~@.mp4", "a/b c?.mp4", "b/é%41.mp4")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(path, draw_noise_clip(k, frames=12))
    encode_video(folder / "b/long.mp4", draw_noise_clip(5, frames=400), gop=10)
    (folder / "b/broken.mp4").write_bytes(b"this is no video" * 99)
    (folder / "b/empty.mp4").write_bytes(b"")
    return folder


def text_of(store: Path) -> bytes:
    """Everything in a store's files."""
    return b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())


def test_a_store_from_s3_has_the_bytes_of_one_from_a_folder(
    server: Server, strange: Path, tmp_path: Path, flowpipe: Run
) -> None:
    url = server.upload(strange, "strange")
    cache = tmp_path / "cache"
    common = (*FAST, "--split", "4")
    local = flowpipe(
        "extract", "--videos", strange, "--out", tmp_path / "here", *common, "--workers", 1
    )
    remote = flowpipe(
        "extract", "--videos", url, "--out", tmp_path / "there", *common, "--workers", 2,
        "--cache", cache, "--cache-gb", "0.001", env=server.environment,
    )  # fmt: skip
    assert (local.returncode, remote.returncode) == (1, 1), remote.stderr
    here, there = images(tmp_path / "here"), images(tmp_path / "there")
    assert here == there and len({video_id for video_id, _ in here}) == 4
    store = open_store(tmp_path / "there")
    assert store.videos["b/long.mp4"].parts > 1
    assert store.videos["a/b c?.mp4"].record.path == f"{url}/a/b c?.mp4"
    source = store.videos["a/b c?.mp4"].meta["source"]
    same = open_store(tmp_path / "here").videos["a/b c?.mp4"].meta["source"]
    assert source["sha256"] == same["sha256"]
    assert source["bytes"] == (strange / "a/b c?.mp4").stat().st_size
    reasons = {line["video_id"]: line["reason"] for line in ledger(tmp_path / "there")}
    assert (reasons["b/broken.mp4"], reasons["b/empty.mp4"]) == ("unreadable", "empty")
    # Messages speak of the URL, not of the copy; nothing of the key is written anywhere.
    everything = text_of(tmp_path / "there")
    assert str(cache).encode() not in everything
    assert SECRET.encode() not in everything and b"AKIDEXAMPLE" not in everything
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 1_000_000
    # Run again, with nothing changed: nothing is fetched or tried.
    again = flowpipe(
        "extract", "--videos", url, "--out", tmp_path / "there", *common, "--cache", cache,
    )  # fmt: skip
    assert "0 to extract, " in again.stderr


def test_an_official_layout_in_a_bucket_is_extracted(
    server: Server, tmp_path: Path, flowpipe: Run
) -> None:
    folder = tmp_path / "ucf"
    names = ["v_Archery_g01_c01", "v_Archery_g08_c01"]
    for k, name in enumerate(names):
        path = folder / "UCF-101" / "Archery" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(path, draw_noise_clip(k, frames=6))
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"1 Archery\r\n2 Biking\r\n")
    for k in (1, 2, 3):
        (lists / f"trainlist0{k}.txt").write_bytes(b"Archery/v_Archery_g08_c01.avi 1\r\n")
        (lists / f"testlist0{k}.txt").write_bytes(
            b"Archery/v_Archery_g01_c01.avi\r\nBiking/v_Biking_g01_c01.avi\r\n"
        )
    url = server.upload(folder, "ucf")
    store = tmp_path / "store"
    options = ("--dataset", "ucf101", "--root", url, "--out", store, "--workers", 1, *FAST)
    refused = flowpipe("extract", *options)
    assert refused.returncode == 2
    assert "1 video listed but absent: v_Biking_g01_c01" in refused.stderr
    done = flowpipe("extract", *options, "--allow-missing")
    assert done.returncode == 0, done.stderr
    videos = open_store(store).videos
    assert [(i, v.labels, v.splits[0]) for i, v in videos.items()] == [
        (names[0], (0,), "test1"), (names[1], (0,), "train1"),
    ]  # fmt: skip
    # A damaged shard is mended from the bucket.
    (shard,) = (store / "shards").glob("*.h5")
    before = images(store)
    content = bytearray(shard.read_bytes())
    content[content.rindex(b"\xff\xd8\xff") + 30] ^= 255
    shard.write_bytes(content)
    assert flowpipe("verify", store).returncode == 1
    mended = flowpipe("verify", store, "--repair")
    assert mended.returncode == 0, mended.stderr
    assert images(store) == before


def test_absent_objects_and_silent_servers_are_reported(
    server: Server, strange: Path, tmp_path: Path, flowpipe: Run
) -> None:
    server.upload(strange / "a", "some")
    (tmp_path / "list.csv").write_text(
        "video_id,path,label\none,some/b c?.mp4,x\ntwo,some/gone.mp4,x\n"
        "three,s3://videos/some/gone too.mp4,x\n"
    )
    server.client.upload_file(str(tmp_path / "list.csv"), "videos", "list.csv")
    store = tmp_path / "store"
    options = ("extract", "--videos", "s3://videos/list.csv", "--out", store, "--workers", 1, *FAST)
    refused = flowpipe(*options)
    assert refused.returncode == 2
    assert "2 videos listed but absent: three, two" in refused.stderr
    done = flowpipe(*options, "--allow-missing")
    assert done.returncode == 0 and list(open_store(store).videos) == ["one"]
    for videos in ("s3://videos/nowhere", "s3://nobucket/list.csv"):
        gone = flowpipe("extract", "--videos", videos, "--out", tmp_path / "x", *FAST)
        assert gone.returncode == 2 and "no such folder" in gone.stderr
    away = {**server.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    nobody = flowpipe(*options, env=away)
    assert nobody.returncode != 0 and "cannot be reached" in nobody.stderr
    assert "Traceback" not in nobody.stderr


def test_an_outage_is_tried_again_by_the_next_run(
    server: Server, strange: Path, tmp_path: Path, flowpipe: Run
) -> None:
    # The list lies here, so that planning goes on when the server is away.
    url = server.upload(strange / "a", "outage")
    (tmp_path / "list.csv").write_text(f"video_id,path\none,{url}/b c?.mp4\n")
    store = tmp_path / "store"
    options = ("extract", "--videos", tmp_path / "list.csv", "--out", store, "--workers", 1, *FAST)
    away = {**server.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    failed = flowpipe(*options, env=away)
    assert failed.returncode == 1, failed.stderr
    (entry,) = (store / "quarantine").glob("*.json")
    outcome = json.loads(entry.read_text())["outcome"]
    assert (outcome["reason"], outcome["path"]) == ("unreachable", f"{url}/b c?.mp4")
    done = flowpipe(*options)
    assert done.returncode == 0, done.stderr
    assert list(open_store(store).videos) == ["one"]
    assert not list((store / "quarantine").glob("*.json"))
