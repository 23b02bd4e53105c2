"""A stream of sound: whole spectrograms, times of their own, videos without any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

import tiny_training  # noqa: E402
from command import in_process  # noqa: E402

from flowpipe import codec, params  # noqa: E402
from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.features import open_features  # noqa: E402
from flowpipe.modality import MODALITIES, START_S, quantiser_of  # noqa: E402
from flowpipe.store import ShardWriter, StreamSpec, create_store, open_store  # noqa: E402
from flowpipe.tsn.data.clips import Clips, clips_of  # noqa: E402
from flowpipe.tsn.data.inputs import input_spec  # noqa: E402
from flowpipe.tsn.network.backbones import build  # noqa: E402
from flowpipe.tsn.network.model import TSN  # noqa: E402
from flowpipe.tsn.network.network_input import network_input  # noqa: E402
from flowpipe.tsn.recipe import AugmentParams, StreamParams, TestParams  # noqa: E402
from flowpipe.tsn.testing import test as testing  # noqa: E402
from flowpipe.tsn.testing.class_images import draw_class  # noqa: E402
from flowpipe.tsn.testing.live import LiveClassifier  # noqa: E402
from flowpipe.tsn.testing.predict import FusedRun, predict  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402
from flowpipe.types import EncodedPlanes, Interval, Span, VideoRecord  # noqa: E402

SIZE = (16, 24)
SILENT = ("video 05", "video 11")
NOTED = {"video 05": ("audio_damaged:7", "no_audio"), "video 11": ("no_audio",)}
STREAM = {
    "backbone": "audio_vgg", "init": "random", "partial_bn": "false", "segments": 2,
    "dropout": 0.0, "schedule.unit": "epochs", "schedule.lr": 0.05, "schedule.end": 5,
    "schedule.lr_steps": "[4]", "schedule.batch_size": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos whose class is the band that is loud; rgb is noise, and two videos have no sound."""
    path = tmp_path_factory.mktemp("heard") / "store"
    made_with = {"bound": 20.0, "modalities": ["rgb", "audio"], "audio": {"hop_s": 0.04}}
    text, digest = params.canonical(made_with), params.digest(made_with)
    create_store(
        path, recipe=text, recipe_digest=digest, dataset={"dataset": "list"},
        class_names=("low", "high"),
    )  # fmt: skip
    rng = np.random.default_rng(3)
    specs = {n: StreamSpec(codec.RawParams(), quantiser_of(n, 20.0)) for n in ("rgb", "audio")}
    with ShardWriter(
        path / "shards" / "a.h5", recipe=text, recipe_digest=digest, backend={}, streams=specs
    ) as writer:
        for k in range(16):
            label, split = k % 2, "test1" if k % 4 > 1 else "train1"
            video_id, frames = f"video {k:02d}", 30 + k
            split = "test1" if video_id == "video 11" else "train1" if k == 5 else split
            segments = (Interval(label, 0.1, 0.3), Interval(label, 0.5, 1.2))
            writer.begin(
                Span(
                    VideoRecord(video_id, "/a", labels=(label,), splits=(split,), segments=segments)
                )
            )
            for name in specs:
                count = frames if name == "rgb" else 0 if video_id in SILENT else 3 + k % 3
                size = (36, 48) if name == "rgb" else SIZE
                images = rng.integers(0, 60, (count, MODALITIES[name].channels, *size), np.uint8)
                if name == "audio":
                    images[:, :, 8 * (1 - label) : 8 * (2 - label)] += 150
                columns = {START_S.name: np.arange(count) * 0.48} if name == "audio" else {}
                payloads = codec.encode(images, codec.RawParams()) if count else ()
                writer.append(EncodedPlanes(name, payloads, *size, columns))
            writer.append_pts(np.arange(frames) / 25)
            writer.commit({"status": "done", "facts": {"notes": NOTED.get(video_id, ())}})
        writer.publish()
    return path


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    heard = tiny_training.job(store, folder, "audio", modality="audio", stream=STREAM)
    told = tiny_training.run(heard)
    tiny_training.run(tiny_training.job(store, folder, "rgb", end=1))
    return {"audio": heard.run, "rgb": folder / "rgb", "told": told}


def test_images_are_used_whole_and_normalised_by_their_row(store: Path) -> None:
    spec = input_spec("audio", 1, ("rgb", "audio"))
    for phase in ("train", "val"):
        clips = Clips(
            [store], clips_of(open_store(store), "train1", "audio", "videos"), spec, phase=phase,
            segments=2, sampling="tsn_pytorch", augment=AugmentParams(), side=224, seed=1,
        )  # fmt: skip
        chunk = clips.read([(0, 0)])
        numbers, crop = clips.draw((0, 0))
        assert (crop.x, crop.y, crop.width, crop.height, crop.flip) == (0, 0, 24, 16, False)
        assert clips.most_bytes == 2 * 16 * 24
        stored = open_store(store).snippet("video 00", "audio", 0, 3)[numbers]
        row = MODALITIES["audio"]
        _, backbone = build("audio_vgg", "random")
        made = network_input(
            [torch.from_numpy(stored)], chunk.samples, spec, backbone, stream=StreamParams(),
            device="cpu",
        )  # fmt: skip
        want = (stored.astype(np.float32) - row.byte_mean) / row.byte_std
        np.testing.assert_allclose(made[0].numpy(), want, rtol=1e-5, atol=1e-5)


def test_a_network_for_pictures_takes_its_one_channel() -> None:
    for name, size in (("audio_vgg", (64, 96)), ("efficientnet_lite0", (64, 96))):
        backbone, row = build(name, "random")
        model = TSN(backbone, row.features, 4, channels=1).eval()
        assert model(torch.zeros(2, 2, 1, *size)).shape == (2, 4)
    network, _ = build("audio_vgg", "random")
    assert 1.0e6 < sum(w.numel() for w in network.parameters()) < 1.3e6


def test_instances_are_found_by_the_times_of_the_sound(store: Path) -> None:
    found = clips_of(open_store(store), "train1", "audio", "instances")
    first = [clip for clip in found if clip.video_id == "video 00"]
    assert [(clip.first, clip.images) for clip in first] == [(0, 1), (2, 1)]


def test_it_learns_and_says_which_videos_are_silent(store: Path, runs: dict[str, Any]) -> None:
    assert any("of split train1 has no image of audio and is left out" in t for t in runs["told"])
    told: list[str] = []
    for protocol in ("dense", "mtwi"):
        wanted = TestParams(protocol=protocol, snippets=3, crops="10")
        scores = testing.test(
            testing.TestJob(store, runs["audio"], params=wanted), lambda *n: None, told.append
        )
        assert scores is not None and "video 11" not in scores.video_ids
        labels = [open_store(store).videos[key].labels[0] for key in scores.video_ids]
        assert scores.scores.argmax(1).tolist() == labels
    assert "1 of 8 videos of split test1 has no image of audio and is left out" in told


def test_fuse_scores_silent_videos_by_the_other_streams(
    store: Path, runs: dict[str, Any], tmp_path: Path
) -> None:
    files = {}
    for name in ("rgb", "audio"):
        files[name] = tmp_path / f"{name}.h5"
        done = in_process("test", store, runs[name], "-o", files[name], "--device", "cpu")
        assert done.returncode == 0, done.stderr
    for order in (("rgb", "audio"), ("audio", "rgb")):
        done = in_process("fuse", *(files[n] for n in order), "--weights", "1,1")
        assert done.returncode == 0, done.stderr
        words = done.stdout + done.stderr
        assert "audio.h5: 1 of 8 videos has no image of audio; the other streams" in words
    done = in_process("fuse", files["audio"], files["rgb"], "--weights", "1,0")
    assert done.returncode != 0 and "video 11 has scores of streams of weight 0 only" in done.stderr
    # A file of an older flowpipe does not name the video; the same test adds its name.
    with h5py.File(files["audio"], "a") as file:
        assert file["left_out"].asstr()[()].tolist() == ["video 11"]
        del file["left_out"]
    done = in_process("fuse", files["rgb"], files["audio"])
    assert done.returncode != 0
    assert "lacks 1 video, such as video 11" in done.stderr
    assert "run the same flowpipe test again" in done.stderr
    done = in_process("test", store, runs["audio"], "-o", files["audio"], "--device", "cpu")
    assert "there is nothing to compute" in done.stdout + done.stderr
    assert in_process("fuse", files["rgb"], files["audio"]).returncode == 0


def test_predict_takes_it_alone_and_beside_frames(store: Path, runs: dict[str, Any]) -> None:
    wanted = TestParams(protocol="mtwi", crops="1", rate_hz=5.0)
    fused = [FusedRun(runs[n], store, 1.0, wanted) for n in ("audio", "rgb")]
    alone = predict("video 03", fused[:1], "cpu", "last.pt")
    assert alone.top(1) == [1]
    np.testing.assert_allclose(alone.times_s, np.arange(len(alone.times_s)) * 0.48)
    both = predict("video 03", fused, "cpu", "last.pt")
    assert len(both.times_s) == len(both.by_snippet) > len(alone.times_s)
    with pytest.raises(UsageError, match="/audio reads: all of its sound is damaged; leave that"):
        predict("video 05", fused, "cpu", "last.pt")
    with pytest.raises(UsageError, match=r"^/a has no image .* reads: the file has no sound$"):
        predict("video 11", fused[:1], "cpu", "last.pt")


def test_what_cannot_use_sound_says_so(store: Path, runs: dict[str, Any], tmp_path: Path) -> None:
    network = SnippetScorer(runs["audio"], "last.pt", "cpu")
    with pytest.raises(UsageError, match="whose spectrograms are not drawn"):
        draw_class(network, 0)
    with pytest.raises(UsageError, match="reads audio, which is not computed live"):
        LiveClassifier([network], [1.0], rate_hz=2.0, window_s=2.0, params=TestParams())


def test_features_of_sound_are_those_of_the_image_nearest_to_each_window(
    store: Path, runs: dict[str, Any], tmp_path: Path
) -> None:
    out, opened = tmp_path / "f.h5", open_store(store)
    command = ("features", store, runs["rgb"], runs["audio"], "-o", out, "--window", 4,
               "--stride", 3, "--crops", 10)  # fmt: skip
    done = in_process(*command)
    assert done.returncode == 0, done.stderr
    assert "audio has no rows of 2 of 16 videos, such as video 05: all of its" in done.stderr
    scorer = SnippetScorer(runs["audio"], "last.pt", "cpu")
    with open_features(out) as file:
        stream = file.streams["audio"]
        assert stream.facts["frames"] == 0 and file.facts["left_out"] == {}
        assert stream.left_out == {
            "video 05": "all of its sound is damaged", "video 11": "the file has no sound",
        }  # fmt: skip
        assert list(file.videos) == list(opened.videos)
        for video_id, video in opened.videos.items():
            scores, centre_s = file.scores("audio", video_id), file.windows(video_id).centre_s
            assert len(scores) == len(file.scores("rgb", video_id)) == len(centre_s)
            assert np.isfinite(file.scores("rgb", video_id)).all()
            if video_id in SILENT:
                assert np.isnan(scores).all() and np.isnan(file.features("audio", video_id)).all()
                continue
            middle_s = 0.48 * np.arange(video.images["audio"]) + 0.48  # 24 columns of 0.04 s
            np.testing.assert_allclose(video.centres_s("audio"), middle_s)
            nearest = np.abs(middle_s - centre_s[:, None]).argmin(1)
            wanted = scorer.snippet_scores(opened, video_id, nearest, 1, "repeat")
            assert len({*nearest.tolist()}) > 1
            np.testing.assert_allclose(scores, wanted.scores[:, 0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                file.features("audio", video_id), wanted.features, rtol=1e-4, atol=1e-5
            )
    done = in_process(*command)
    assert "there is nothing to compute" in done.stdout + done.stderr
    done = in_process("features", store, runs["audio"], "-o", tmp_path / "a.h5")
    assert done.returncode == 0 and "video 11 has no rows: no image of audio: the" in done.stderr
    done = in_process("features", store, runs["rgb"], runs["audio"], "-o", tmp_path / "b.h5",
                      "--video", "video 11")  # fmt: skip
    assert done.returncode == 2 and "such as video 11: the file has no sound" in done.stderr


def test_what_reads_features_treats_videos_without_sound(
    store: Path, runs: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "f.h5"
    done = in_process("features", store, runs["rgb"], runs["audio"], "-o", out, "--window", 4)
    assert done.returncode == 0, done.stderr
    found = {}
    for streams in ("rgb", "rgb,audio", "audio"):
        found[streams] = tmp_path / f"{streams}.json"
        done = in_process("localise", out, "-o", found[streams], "--streams", streams)
        assert done.returncode == 0, done.stderr
        told = "audio has no rows of 2 of 16 videos, such as video 05: all of its sound"
        assert (told in done.stderr) == ("audio" in streams)
        told = "2 videos without intervals, such as video 05: no chosen stream has rows"
        assert (told in done.stderr) == (streams == "audio")
    results = {name: json.loads(path.read_text())["results"] for name, path in found.items()}
    for video_id in SILENT:
        assert results["rgb,audio"][video_id] == results["rgb"][video_id]
        assert video_id not in results["audio"]
    assert results["rgb,audio"]["video 03"] != results["rgb"]["video 03"]

    done = in_process("export", out, tmp_path / "af", "--layout", "actionformer")
    assert done.returncode == 0, done.stderr
    assert "has no audio of 2 of 16 videos; zeros stand for it" in done.stderr
    with open_features(out) as file:
        for video_id in file.videos:
            rows = np.load(tmp_path / "af" / "features" / f"{video_id}.npy")
            rgb, heard = np.split(rows, [file.width("rgb", "features")], axis=1)
            np.testing.assert_array_equal(rgb, file.features("rgb", video_id))
            assert heard.any() == (video_id not in SILENT)
