"""The modality audio from files to a store: counts of its own, parts, digests, every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import FAST, in_process
from soundfile import clicks, damage_sound, encode_sound, tone
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.errors import RecipeError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.modality import MODALITIES, dequantise, quantiser_of
from flowpipe.ops import get_ops
from flowpipe.report.sheet import contact_sheet, store_sheet
from flowpipe.store import Store, open_store
from flowpipe.types import Span, VideoRecord

pytest.importorskip("librosa", reason="images of sound need librosa (extra audio)")


def flowpipe(*arguments: object) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = in_process(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


COUNTS = {
    "tone.mkv": 4, "click.mkv": 5, "silent.mp4": 0, "damaged.mkv": 0, "unknown.mkv": 0,
    "long.mkv": 15,
}  # fmt: skip
SPLIT_S = 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    encode_sound(folder / "tone.mkv", [tone(1000, 2.0)], frames=8)
    encode_sound(folder / "click.mkv", [clicks((1.0,), 2.5)], frames=8)
    encode_video(folder / "silent.mp4", moving_clip(6))
    damage_sound(folder / "tone.mkv", folder / "damaged.mkv")
    unknown = (folder / "tone.mkv").read_bytes().replace(b"A_FLAC", b"A_NONE")
    (folder / "unknown.mkv").write_bytes(unknown)
    noise = np.random.default_rng(1).normal(0, 0.2, round(7.3 * 16000))
    encode_sound(folder / "long.mkv", [noise], frames=160, first_s=0.3)
    return folder


@pytest.fixture(scope="module")
def store(clips: Path) -> Store:
    out = clips.with_name(f"{clips.name}-store")
    flowpipe(
        "extract", "--videos", clips, "--out", out, "--modalities", "rgb,flow,audio",
        "--workers", 1, *FAST, "--split", SPLIT_S,
    )  # fmt: skip
    return open_store(out)


def test_its_count_is_its_own(store: Store) -> None:
    for video_id, count in COUNTS.items():
        video = store.videos[video_id]
        assert video.images == {
            "rgb": video.frames, "flow": video.frames - 1, "audio": count,
        }  # fmt: skip
        times = store.column(video_id, "audio", "start_s")
        np.testing.assert_allclose(times, np.arange(count) * 0.48)
        np.testing.assert_allclose(video.centres_s("audio"), times + 0.48)
        np.testing.assert_array_equal(video.centres_s("rgb"), video.pts_s)
        between_s = (video.pts_s[1:] + video.pts_s[:-1]) / 2
        np.testing.assert_array_equal(video.centres_s("flow"), between_s)
        assert store.snippet(video_id, "audio", 0, count).shape[:2] == (count, 1)
    assert store.videos["silent.mp4"].meta["facts"]["notes"][-1] == "no_audio"


def test_the_reason_for_no_sound_is_that_of_the_decoder(store: Store) -> None:
    pytest.importorskip("torch", reason="training needs torch")
    from flowpipe.tsn.data.lacking import explain_without_images

    reasons = {
        video_id: explain_without_images(store.videos[video_id], "audio")
        for video_id, count in COUNTS.items() if not count
    }  # fmt: skip
    assert reasons == {
        "silent.mp4": "the file has no sound",
        "damaged.mkv": "all of its sound is damaged",
        "unknown.mkv": "FFmpeg has no decoder for its sound",
    }


def test_its_values_are_decibels(store: Store) -> None:
    decibels = store.values("tone.mkv", "audio", 0, 2)
    assert decibels.shape == (2, 1, 64, 96) and -4 < decibels.max() <= 0
    assert decibels.min() == pytest.approx(-100)
    quantiser = quantiser_of("audio", 20.0, -80.0)
    ends = dequantise(np.array([0, 255], np.uint8), quantiser, "audio")
    np.testing.assert_allclose(ends, [-80, 0], atol=1e-5)


def test_every_command_takes_it(store: Store, tmp_path: Path) -> None:
    assert "intact" in flowpipe("verify", store.path)
    facts = json.loads(flowpipe("info", store.path, "--json"))
    assert facts["images"]["audio"] == 24 and "" not in facts["sizes"]
    assert "audio_late" in flowpipe("info", store.path, "long.mkv")
    assert "no_audio" in flowpipe("info", store.path, "silent.mp4")
    for video_id in COUNTS:
        flowpipe("show", store.path, video_id, "-o", tmp_path / "sheet.png")
        assert contact_sheet(store, video_id, columns=3, cell_px=80).ndim == 3
    assert store_sheet(store).ndim == 3
    for layout in ("mmaction2", "dense_flow", "webdataset"):
        out, again = tmp_path / layout, tmp_path / f"{layout}-store"
        flowpipe("export", store.path, out, "--layout", layout)
        flowpipe("import", out, again)
        there = open_store(again)
        for video_id, count in COUNTS.items():
            np.testing.assert_array_equal(
                there.snippet(video_id, "audio", 0, count),
                store.snippet(video_id, "audio", 0, count),
            )
            np.testing.assert_array_equal(
                there.column(video_id, "audio", "start_s"),
                store.column(video_id, "audio", "start_s"),
            )
            np.testing.assert_array_equal(
                there.videos[video_id].centres_s("audio"), store.videos[video_id].centres_s("audio")
            )


def test_sound_alone_may_be_stored_and_is_that_of_split_videos(
    clips: Path, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    flowpipe(
        "extract", "--videos", clips, "--out", out, "--modalities", "audio", "--workers", 1,
        "--split", 0,
    )  # fmt: skip
    made = open_store(out)
    assert made.videos["long.mkv"].parts == 1 and store.videos["long.mkv"].parts > 2
    for video_id, count in COUNTS.items():
        np.testing.assert_array_equal(
            store.snippet(video_id, "audio", 0, count), made.snippet(video_id, "audio", 0, count)
        )
        np.testing.assert_array_equal(
            store.column(video_id, "audio", "start_s"), made.column(video_id, "audio", "start_s")
        )
    assert {video_id: v.images["audio"] for video_id, v in made.videos.items()} == COUNTS
    assert store_sheet(made).ndim == 3
    assert "intact" in flowpipe("verify", out)


def test_only_the_last_part_of_a_split_video_decodes_the_sound(clips: Path) -> None:
    recipe = params.build(ExtractRecipe, {"modalities": ["audio"]})
    record = VideoRecord("long.mkv", str(clips / "long.mkv"))
    counts, notes = [], []
    for part, edges in enumerate([(None, 2.0), (2.0, 4.0), (4.0, None)]):
        extraction = Extraction(Span(record, part, 3, *edges), recipe, get_ops())
        encoded = [one for window in extraction for one in window.encoded]
        counts.append(sum(len(one.payloads) for one in encoded if one.modality == "audio"))
        assert extraction.facts is not None
        notes.append("audio_late" in extraction.facts.notes)
    assert counts == [0, 0, COUNTS["long.mkv"]] and notes == [False, False, True]


def test_recipes_without_sound_keep_their_digest() -> None:
    """Digests of before there was sound: stores that were made then accept new videos."""
    known = "57aad3a7"
    plain = params.build(ExtractRecipe, {})
    assert "audio" not in params.plain(plain)
    given = params.build(ExtractRecipe, {"audio": {"mels": 32}})
    assert params.digest(plain) == params.digest(given)
    assert params.digest(plain).startswith(known)
    heard = params.build(ExtractRecipe, {"modalities": ["rgb", "audio"]})
    assert params.plain(heard)["audio"]["mels"] == 64
    other = params.build(
        ExtractRecipe, {"modalities": ["rgb", "audio"], "audio": {"stride_s": 0.96}}
    )
    assert params.digest(heard) != params.digest(other)
    with pytest.raises(RecipeError, match="stride_s must be"):
        params.build(ExtractRecipe, {"audio": {"stride_s": 2.0}})
    assert MODALITIES["audio"].from_sound
