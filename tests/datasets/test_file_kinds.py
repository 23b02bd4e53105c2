"""Which files of a folder are videos: known extensions, and unknown ones that decode."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import cv2
import pytest
from command import draw_noise_clip
from videofile import encode_video

from flowpipe.datasets import DATASETS, file_kinds
from flowpipe.errors import DatasetError

load = DATASETS["folder"].load


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return encode_video(tmp_path / "made" / "clip.mp4", draw_noise_clip(1, frames=6))


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()


def test_files_of_unknown_extension_are_taken_if_they_decode(clip: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("none", "odd.video", ".hidden.mp4"):
        shutil.copy(clip, folder / name)
    encode_video(folder / "raw.mpeg", draw_noise_clip(2, frames=6), codec="mpeg2video")
    (folder / "raw.mpeg").rename(folder / "raw.stream")
    (folder / "noise").write_bytes(bytes(range(256)) * 40)
    (folder / "code.ts").write_text("export const a = 1;\n" * 50)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    (folder / "empty").touch()
    dataset = load(folder)
    assert [r.video_id for r in dataset.records] == ["none", "odd.video", "raw.stream"]
    counts = {one.kind: one.count for one in dataset.left_out}
    assert counts == {".txt": 2, "without extension": 2, ".ts": 1, "hidden .mp4": 1}
    assert "6 files left out: 2 .txt, 2 without extension" in dataset.note


def test_files_of_other_kinds_are_never_opened(clip: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clip, folder / "a.mp4")
    shutil.copy(clip, folder / "b.jpg")  # would decode
    assert [r.video_id for r in load(folder).records] == ["a.mp4"]


MOVING = {
    # extensions that pictures, sound or data have too -> encoder, format and pixels of a video
    "clip.ogg": ("libtheora", "ogg", "yuv420p"),
    "clip.swf": ("flv", "swf", "yuv420p"),
    "clip.png": ("apng", "apng", "rgb24"),
    "clip.avif": ("libaom-av1", "avif", "yuv420p"),
    "clip.bin": ("libx264", "mp4", "yuv420p"),
    "clip.ps": ("mpeg2video", "vob", "yuv420p"),
}


@pytest.mark.parametrize("name", MOVING)
def test_videos_are_taken_among_pictures_and_sound_of_their_extension(name: str, tmp_path: Path):
    codec, container, pixels = MOVING[name]
    if codec not in av.codecs_available or container not in av.formats_available:
        pytest.skip(f"needs FFmpeg's {codec} in {container}")
    folder = tmp_path / "videos"
    folder.mkdir()
    clips = draw_noise_clip(1, frames=6)
    encode_video(folder / name, clips, codec=codec, pix_fmt=pixels, container_format=container)
    other = folder / f"other{Path(name).suffix}"
    good, picture = cv2.imencode(".png", clips[0])
    assert good
    other.write_bytes(picture.tobytes())
    dataset = load(folder)
    assert [r.video_id for r in dataset.records] == [name]
    assert [(one.kind, one.count) for one in dataset.left_out] == [(other.suffix, 1)]


def test_a_folder_of_pictures_is_not_opened_picture_by_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good, picture = cv2.imencode(".png", draw_noise_clip(1, frames=1)[0])
    assert good
    for number in range(file_kinds.MOST_TRIED + 20):
        (tmp_path / f"{number:05}.png").write_bytes(picture.tobytes())
    opened: list[str] = []
    read_head = file_kinds.read_head
    monkeypatch.setattr(
        file_kinds, "read_head", lambda path: (opened.append(path), read_head(path))[1]
    )
    with pytest.raises(DatasetError, match=r"220 \.png"):
        load(tmp_path)
    assert len(opened) == file_kinds.MOST_TRIED
