"""`--decoder nvdec` from the command line to a store, on the stand-in of PyNvVideoCodec."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import FAST, Run, draw_noise_clip, images, ledger, run_python
from emulated import STAND_IN as EMULATOR
from nvdec_machine import environment, stand_in
from videofile import encode_video

from flowpipe import open_store
from flowpipe.experimental import describe_experimental

NVDEC = ("--device", "cpu", "--decoder", "nvdec", *FAST)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos that NVDEC knows, one of which is cut in time, and one that it does not."""
    folder = tmp_path_factory.mktemp("videos")
    encode_video(folder / "known.mp4", draw_noise_clip(1), b_frames=2)
    encode_video(folder / "long.mkv", draw_noise_clip(2, frames=80), codec="libx265", gop=10)
    encode_video(folder / "unknown.mkv", draw_noise_clip(3), codec="ffv1")
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has NVDEC, and so have the workers that it starts."""
    for name, value in environment(tmp_path / "driver").items():
        monkeypatch.setenv(name, value)
    with stand_in():
        yield


def test_a_store_of_nvdec_is_that_of_the_cpu(videos: Path, tmp_path: Path, flowpipe: Run) -> None:
    machine = environment(tmp_path / "driver")
    ours, theirs = tmp_path / "nvdec", tmp_path / "cpu"
    split = ("--split", 1, "--workers", 2)
    done = flowpipe(
        "extract", "--videos", videos, "--out", ours, *NVDEC, *split, "--verify", env=machine
    )
    assert done.returncode == 1, done.stderr
    assert "device: cpu; NVDEC decodes on 1 of 1 GPUs" in done.stderr
    assert "all intact" in done.stderr
    (failed,) = [line for line in ledger(ours) if line["status"] == "failed"]
    assert (failed["video_id"], failed["reason"]) == ("unknown.mkv", "unsupported")
    assert "its coding is ffv1; --decoder cpu can, in a store of its own" in str(failed["message"])
    cpu = ("--device", "cpu", *FAST, *split)
    assert flowpipe("extract", "--videos", videos, "--out", theirs, *cpu).returncode == 0
    expected = {key: value for key, value in images(theirs).items() if key[0] != "unknown.mkv"}
    assert images(ours) == expected
    for video_id, video in open_store(ours).videos.items():
        (decoder,) = {meta["facts"]["decoder"] for meta in video.part_metas}
        assert decoder.startswith("PyNvVideoCodec 2.2.4 nvdec "), video_id
    again = flowpipe("extract", "--videos", videos, "--out", ours, *NVDEC, *split, env=machine)
    assert "0 to extract" in again.stderr


def test_a_gpu_decodes_and_computes(videos: Path, tmp_path: Path, flowpipe: Run) -> None:
    """Both of one worker: NVDEC's pictures go on to the operations of the CUDA backend."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile the emulated kernels")
    machine = environment(tmp_path / "driver")
    machine["PYTHONPATH"] = os.pathsep.join([str(EMULATOR), machine["PYTHONPATH"]])
    one = tmp_path / "videos"
    one.mkdir()
    shutil.copy(videos / "known.mp4", one)
    begin = ("extract", "--videos", one, "--size", "64x48", "--modalities", "rgb")
    ours, theirs = tmp_path / "gpu", tmp_path / "cpu"
    done = flowpipe(*begin, "--out", ours, "--gpus", 1, "--decoder", "nvdec", env=machine)
    assert done.returncode == 0, done.stderr
    assert flowpipe(*begin, "--out", theirs, "--device", "cpu").returncode == 0
    (line,) = ledger(ours)
    assert line["backend"] == "cuda-sm_90"
    assert images(ours) == images(theirs)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("first, second", [("cpu", "nvdec"), ("nvdec", "cpu")])
def test_a_store_keeps_to_one_decoder(
    first: str, second: str, videos: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store, one = tmp_path / "store", tmp_path / "videos"
    one.mkdir()
    shutil.copy(videos / "known.mp4", one)
    begin = ("extract", "--videos", one, "--out", store, "--device", "cpu", *FAST, "--decoder")
    assert flowpipe(*begin, first).returncode == 0
    before = images(store)
    shutil.copy(videos / "known.mp4", one / "another.mp4")
    refused = flowpipe(*begin, second)
    assert refused.returncode == 2
    assert "was made with another recipe" in refused.stderr
    assert "video.decoder" in refused.stderr
    assert images(store) == before


@pytest.mark.parametrize("command", ["extract", "plan"])
@pytest.mark.parametrize("how", [("--decoder", "nvdec"), ("--set", "video.decoder=nvdec")])
def test_without_a_gpu_nothing_is_written(
    how: tuple[str, ...], command: str, videos: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    asked = (command, "--videos", videos, "--out", store, *how)
    done = flowpipe(*asked, env=environment(tmp_path / "driver", gpus=0))
    assert done.returncode == 2
    assert "decoder nvdec: this process sees no GPU" in done.stderr
    assert "or use --decoder cpu, in a store of its own" in done.stderr
    assert "Traceback" not in done.stderr
    assert not store.exists()


def test_plan_opens_no_session(videos: Path, tmp_path: Path, flowpipe: Run) -> None:
    machine = {**environment(tmp_path / "driver"), "NVDEC_STAND_IN_SESSIONS": "0"}
    asked = ("plan", "--videos", videos, "--out", tmp_path / "store", "--workers", 1, *NVDEC)
    done = flowpipe(*asked, "--json", env=machine)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gpus"] == 1


def test_workers_of_a_scheduler_check_nvdec_themselves(
    videos: Path, tmp_path: Path, flowpipe: Run
) -> None:
    asked = ("plan", "--videos", videos, "--out", tmp_path / "store", "--decoder", "nvdec")
    machine = environment(tmp_path / "driver", gpus=0)
    done = flowpipe(*asked, "--scheduler", "tcp://far:1", env=machine)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("machine")
def test_repair_decodes_as_the_store_was_made(videos: Path, tmp_path: Path, flowpipe: Run) -> None:
    store, one = tmp_path / "store", tmp_path / "videos"
    one.mkdir()
    shutil.copy(videos / "known.mp4", one)
    assert flowpipe("extract", "--videos", one, "--out", store, *NVDEC).returncode == 0
    before = images(store)
    (shard,) = (store / "shards").glob("*.h5")
    broken = bytearray(shard.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    shard.write_bytes(broken)
    without = flowpipe("verify", store, "--repair", env=environment(tmp_path / "none", gpus=0))
    assert without.returncode == 2
    assert "this process sees no GPU" in without.stderr
    assert shard.read_bytes() == broken, "a store is not touched that cannot be mended"
    assert flowpipe("verify", store, "--repair").returncode == 0
    assert images(store) == before


@pytest.mark.usefixtures("machine")
def test_used_up_sessions_stop_the_run_with_advice(
    videos: Path, tmp_path: Path, flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVDEC_STAND_IN_SESSIONS", "0")
    store = tmp_path / "store"
    asked = ("extract", "--videos", videos, "--out", store, "--workers", 1, *NVDEC)
    done = flowpipe(*asked)
    assert done.returncode == 2
    assert "use fewer --workers per GPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((store / "quarantine").glob("*")), "no video is to blame"


def test_workers_share_the_gpus_where_the_cores_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path / "driver", gpus=4).items():
        monkeypatch.setenv(name, value)
    found = run_python(
        "from flowpipe.run.planning.devices import Devices, for_decoder\n"
        "for workers in (8, 6, 3, 7):\n"
        "    print(for_decoder(Devices('cpu', 0, workers, ''), 'nvdec').gpus, end=' ')\n"
        "print(for_decoder(Devices('cuda', 2, 2, ''), 'nvdec').gpus)\n"
    )
    assert found.split() == ["4", "3", "3", "1", "2"]


def test_doctor_lists_nvdec(tmp_path: Path, flowpipe: Run) -> None:
    rows = []
    for gpus in (1, 0):
        machine = environment(tmp_path / f"driver-{gpus}", gpus=gpus)
        found = json.loads(flowpipe("doctor", "--json", env=machine).stdout)
        rows += [row for row in found if row["topic"] == "NVDEC"]
    assert [row["state"] for row in rows] == ["ok", "lack"]
    assert rows[0]["found"] == "PyNvVideoCodec 2.2.4"
    assert rows[0]["cost"] == describe_experimental("nvdec")
    assert "this process sees no GPU" in rows[1]["cost"]


def test_the_decoder_is_in_the_digest() -> None:
    from flowpipe import params
    from flowpipe.extraction.recipe import ExtractRecipe
    from flowpipe.video import VideoParams

    cpu, nvdec = (ExtractRecipe(video=VideoParams(decoder=name)) for name in ("cpu", "nvdec"))
    assert params.digest(cpu) == params.digest(ExtractRecipe())
    assert params.digest(nvdec) != params.digest(cpu)
