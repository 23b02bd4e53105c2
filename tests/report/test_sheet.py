"""Contact sheets of real stores: what they show, and that stores of any content are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from store_making import RECIPE, Made, add_video, open_writer

from flowpipe import codec, params
from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.report import contact_sheet, flow_colours, save_png, store_sheet
from flowpipe.report.page import WARNING, Page, fit, text_width
from flowpipe.report.sheet import choose_videos
from flowpipe.store import create_store, open_store
from flowpipe.types import EncodedPlanes, Span, VideoRecord

ALL = tuple(MODALITIES)
CLASSES = ("wave", "jump", "sit down")


def make_store(
    path: Path,
    videos: Sequence[tuple[str, int, tuple[int, ...]]],
    modalities: Sequence[str] = ALL,
    size: tuple[int, int] = (64, 80),
    level: int = 179,
    status: str = "done",
    notes: Sequence[str] = (),
) -> Any:
    """Videos as (id, frames, labels); RGB is plain blue, every flow byte is `level`."""
    create_store(
        path,
        recipe=params.canonical(RECIPE),
        recipe_digest=params.digest(RECIPE),
        dataset={"dataset": "folder", "root": "/videos"},
        class_names=CLASSES,
    )
    with open_writer(path / "shards" / "shard-00000000000a.h5", modalities) as writer:
        for video_id, frames, labels in videos:
            writer.begin(Span(VideoRecord(video_id, f"/videos/{video_id}", labels=labels)))
            for name in modalities:
                row = MODALITIES[name]
                planes = np.full(
                    (max(0, frames - row.context), row.channels, *size), level, np.uint8
                )
                if row.channels == 3:
                    planes[:] = np.array([20, 40, 220], np.uint8)[:, None, None]
                columns = {c.name: np.zeros((len(planes), *c.shape), c.dtype) for c in row.columns}
                if "start_s" in columns:
                    columns["start_s"][:] = np.arange(len(planes)) * 0.48
                if "homography" in columns:
                    columns["homography"][:] = np.eye(3)
                    columns["homography"][: frames // 2, 0, 2] = 3.0
                payloads = codec.encode(planes, codec.RawParams())
                writer.append(EncodedPlanes(name, payloads, *size, columns))
            writer.append_pts(np.arange(frames) / 25)
            writer.commit({"status": status, "facts": {"notes": list(notes)}})
        writer.publish()
    return open_store(path)


def share_of(sheet: np.ndarray, colour: Sequence[int], tolerance: int = 3) -> float:
    near = np.abs(sheet.astype(int) - np.asarray(colour)).max(axis=2) <= tolerance
    return float(near.mean())


def test_a_video_shows_frames_and_coloured_flow(tmp_path):
    store = make_store(tmp_path / "s", [("a", 30, (1,))])
    sheet = contact_sheet(store, "a", columns=4, cell_px=100)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    # Two rows of RGB-like pictures and two of flow, 4 x 80 x 100 px each, whatever the page's size.
    area = 4 * 80 * 100 / (sheet.shape[0] * sheet.shape[1])
    assert share_of(sheet, (20, 40, 220)) == pytest.approx(2 * area, rel=0.02)
    value = 179 * 40 / 255 - 20
    want = flow_colours(np.full((2, 1, 1), value, np.float32), 12)[0, 0]  # 11.4 px: shown of 12
    assert share_of(sheet, want) == pytest.approx(2 * area, rel=0.02)
    np.testing.assert_array_equal(sheet, contact_sheet(store, "a", columns=4, cell_px=100))


def test_columns_add_width_and_rows_follow_the_modalities(tmp_path):
    store = make_store(tmp_path / "s", [("a", 30, ())])
    wide = contact_sheet(store, "a", columns=8, cell_px=200)
    narrow = contact_sheet(store, "a", columns=4, cell_px=200)
    assert wide.shape[0] == narrow.shape[0]
    assert wide.shape[1] > narrow.shape[1]
    only = make_store(tmp_path / "t", [("a", 30, ())], modalities=("flow",))
    assert contact_sheet(only, "a", cell_px=200).shape[0] < narrow.shape[0]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_videos_are_drawn(tmp_path, frames):
    store = make_store(tmp_path / "s", [("a", frames, (0,))])
    assert share_of(contact_sheet(store, "a"), (20, 40, 220)) > 0.02
    assert share_of(store_sheet(store), (20, 40, 220)) > 0.02


@pytest.mark.parametrize("size", [(16, 400), (400, 16), (1, 1), (256, 340)])
def test_images_of_odd_sizes_are_drawn(tmp_path, size):
    store = make_store(tmp_path / "s", [("a", 5, ())], size=size)
    for sheet in (contact_sheet(store, "a"), store_sheet(store)):
        assert share_of(sheet, (20, 40, 220)) > 0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_videos_without_and_with_full_motion_are_drawn(tmp_path, level):
    store = make_store(tmp_path / "s", [("a", 5, ())], level=level)
    value = np.full((2, 1, 1), level * 40 / 255 - 20, np.float32)
    scale = 2 if level == 128 else 30  # 28.3 px along the diagonal, and the next round number
    assert share_of(contact_sheet(store, "a"), flow_colours(value, scale)[0, 0]) > 0.2


def test_any_id_and_any_class_can_be_written(tmp_path):
    ids = ["../../etc/passwd", "x" * 240, "日本 \\xff %d {} é", "#1 (a) [b] & c"]
    store = make_store(tmp_path / "s", [(video_id, 4, (2, 0)) for video_id in ids])
    for video_id in ids:
        contact_sheet(store, video_id, columns=2)
    store_sheet(store)


def test_partial_videos_are_marked(tmp_path):
    whole = make_store(tmp_path / "s", [("a", 4, ())])
    broken = make_store(tmp_path / "t", [("a", 4, ())], status="partial")
    for draw in (lambda store: contact_sheet(store, "a"), store_sheet):
        one, other = draw(whole), draw(broken)
        assert one.shape == other.shape
        assert (one != other).any()


def test_notes_of_damage_are_written_in_the_colour_of_warnings(tmp_path):
    plain = make_store(tmp_path / "s", [("a", 4, ())], notes=["colour_untagged"])
    damaged = make_store(tmp_path / "t", [("a", 4, ())], notes=["lost_frames:3", "interlaced"])
    for draw in (lambda store: contact_sheet(store, "a"), store_sheet):
        assert share_of(draw(plain), WARNING) == 0
        assert share_of(draw(damaged), WARNING) > 0


def test_a_store_sheet_shows_every_class(tmp_path):
    videos = [(f"v{k:02d}", 4, (k // 10,)) for k in range(30)]
    store = make_store(tmp_path / "s", videos)
    three = store_sheet(store, videos=3, cell_px=170)
    six = store_sheet(store, videos=6, cell_px=170)
    assert six.shape[1] == three.shape[1]
    row = (six.shape[0] - three.shape[0]) / 3
    assert store_sheet(store, videos=9, cell_px=170).shape[0] == six.shape[0] + 3 * row
    assert sorted(video.labels for video in choose_videos(store, 3)) == [(0,), (1,), (2,)]
    assert len(choose_videos(store, 9)) == 9
    ids = [video.video_id for video in choose_videos(store, 9)]
    assert ids == sorted(ids)
    assert len({v.labels for v in choose_videos(store, 2)}) == 2


@pytest.mark.parametrize("labels", [(), (1,)])
def test_videos_of_a_store_sheet_are_evenly_spaced(tmp_path, labels):
    store = make_store(tmp_path / "s", [(f"v{k:02d}", 2, labels) for k in range(40)])
    places = [int(video.video_id[1:]) for video in choose_videos(store, 8)]
    assert places == [2, 7, 12, 17, 22, 27, 32, 37]
    assert len(choose_videos(store, 50)) == 40


def test_the_key_says_what_darker_colours_mean(tmp_path, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(Page, "write", lambda self, text, *a, **k: written.append(text))
    contact_sheet(make_store(tmp_path / "s", [("a", 4, ())]), "a")
    assert "darker beyond it" in written


def test_split_videos_are_drawn_as_one(tmp_path, rng):
    create_store(
        tmp_path / "s", recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=("a", "b", "c", "d"),
    )  # fmt: skip
    made = Made(tmp_path / "s")
    for part in range(3):
        path = tmp_path / "s" / "shards" / f"shard-{part:012x}.h5"
        with open_writer(path, ALL) as writer:
            add_video(writer, made, "long", 9, rng, part=part, parts=3)
            writer.publish()
    store = open_store(tmp_path / "s")
    contact_sheet(store, "long", columns=12)
    store_sheet(store)


def test_arguments_that_cannot_be_drawn_are_refused(tmp_path):
    store = make_store(tmp_path / "s", [("a", 4, ())])
    with pytest.raises(KeyError, match="no video 'b'"):
        contact_sheet(store, "b")
    with pytest.raises(ValueError, match="wanted at least"):
        contact_sheet(store, "a", columns=0)
    store.path.joinpath("shards", store.shards[0]).unlink()
    with pytest.raises(ValueError, match="no videos"):
        store_sheet(open_store(store.path))


def test_a_png_holds_the_picture(tmp_path, rng):
    picture = rng.integers(0, 256, (30, 40, 3), np.uint8)
    path = tmp_path / "sub ü" / "x.png"
    path.parent.mkdir()
    save_png(path, picture)
    back = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(back[:, :, ::-1], picture)
    save_png(path, picture[:10])  # an existing file is replaced
    assert [entry.name for entry in path.parent.iterdir()] == ["x.png"]


def test_a_png_that_cannot_be_written_is_named(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UsageError, match="picture .*nowhere.* cannot be written"):
        save_png(tmp_path / "nowhere" / "x.png", picture)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="picture .*folder.* cannot be written"):
        save_png(tmp_path / "folder", picture)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_long_text_is_cut_in_its_middle():
    text = "v_ApplyEyeMakeup_g01_c01_and_much_more_of_it_to_come"
    cut = fit(text, 150, 12)
    assert text_width(cut, 12) <= 150 < text_width(text, 12)
    assert cut.startswith("v_") and cut.endswith("me")
    assert fit("short", 150, 12) == "short"


def test_text_marks_the_page():
    page = Page(200, 40)
    blank = page.pixels.copy()
    page.write("±20 px · ×", 5, 25, 14)
    assert (page.pixels != blank).any()
