"""predict --live: the scores of a store's snippets without a store, from files and streams."""

from __future__ import annotations

import json
import re
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import job, run  # noqa: E402
from videofile import encode_video, moving_clip  # noqa: E402

from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.evaluation import softmax  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn import recipe  # noqa: E402
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES  # noqa: E402
from flowpipe.tsn.run_folder import LAST  # noqa: E402
from flowpipe.tsn.testing.live import LiveClassifier, LivePrediction  # noqa: E402
from flowpipe.tsn.testing.pooling import Pooling  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer, SnippetScores  # noqa: E402
from flowpipe.tsn.testing.test import snippets_of  # noqa: E402
from flowpipe.video import VideoParams, open_video  # noqa: E402
from flowpipe.video.live import LiveFrame, live_frames, resample  # noqa: E402

FRAMES, RATE_HZ = 43, 5.0
RUNS = {
    # run -> modalities of its store, modality, settings
    "rgb": ("rgb", "rgb", {}),
    "differences_of_frames": ("rgb", "rgb_diff", {}),
    "stored_differences": ("rgb,rgb_diff", "rgb_diff", {"sampling": "mmaction2"}),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of three shades, lossless stores of them, and runs of rgb and of differences."""
    folder = tmp_path_factory.mktemp("live")
    encode_video(folder / "single.mp4", moving_clip(1))
    lines = ["video_id,path,label,split"]
    for number, name in enumerate(("bright", "dark", "middle", "test")):
        frames = moving_clip(FRAMES, seed=number) // 3 + (170, 0, 85, 85)[number]
        encode_video(folder / f"{name}.mp4", frames.astype(np.uint8))
        label, split = ("middle", "test1") if name == "test" else (name, "train1")
        lines.append(f"{name},{name}.mp4,{label},{split}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    for names in ("rgb", "rgb,rgb_diff"):
        result = in_process(
            "extract", "--videos", folder / "list.csv", "--out", folder / f"store-{names}",
            "--modalities", names, "--size", "64x48", "--workers", 1,
            *(f"--set=codecs.{name}=raw" for name in names.split(",")),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    for name, (stored, modality, stream) in RUNS.items():
        run(job(folder / f"store-{stored}", folder, name, modality=modality, stream=stream, end=4))
    return folder


def network_of(place: Path, name: str) -> SnippetScorer:
    return SnippetScorer(place / name, LAST, "cpu")


def classify(classifier: LiveClassifier, clip: Path) -> list[LivePrediction]:
    """Feed a clip as the command does."""
    ops, found = get_ops(), []
    for frame in live_frames(str(clip), VideoParams()):
        found.append(classifier.add(ops.resize(frame.pixels[None], 48, 64)[0], frame.time_s))
    return [one for one in [*found, *classifier.end()] if one is not None]


def scores_of_store(place: Path, name: str) -> tuple[list[float], SnippetScores]:
    """Return times and scores of the snippets of a stored clip."""
    network, params = (
        network_of(place, name),
        recipe.TestParams(protocol="mtwi", crops="1", rate_hz=RATE_HZ),
    )
    store = open_store(place / f"store-{RUNS[name][0]}")
    rule = SAMPLING_STRATEGIES[network.facts.stream.sampling]
    times_s, scored = snippets_of(network, store, "middle", params, rule)
    return times_s.tolist(), scored


@pytest.mark.parametrize("name", RUNS)
def test_snippets_have_the_scores_that_a_store_of_the_same_frames_gives(
    place: Path, name: str
) -> None:
    times_s, scored = scores_of_store(place, name)
    network = network_of(place, name)
    classifier = LiveClassifier([network], [1.0], rate_hz=RATE_HZ, window_s=1.0)
    found = classify(classifier, place / "middle.mp4")
    assert [one.time_s for one in found] == times_s
    assert len(found) == 9  # the last one reaches beyond the end
    np.testing.assert_allclose(
        [one.snippet for one in found], softmax(scored.scores.mean(1)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("consensus", ["average", "max", "top_k"])
def test_a_prediction_pools_the_snippets_of_the_window_as_a_test_does(
    place: Path, consensus: str
) -> None:
    _, scored = scores_of_store(place, "rgb")
    network = network_of(place, "rgb")
    params = recipe.TestParams(crops="1", consensus=consensus, top_k=2)  # type: ignore[arg-type]
    classifier = LiveClassifier([network], [1.0], rate_hz=RATE_HZ, window_s=0.8, params=params)
    found = classify(classifier, place / "middle.mp4")
    pooling = Pooling(params, network.facts.stream, network.model.consensus)
    for k, one in enumerate(found):
        window = slice(max(0, k - 3), k + 1)
        wanted = pooling(SnippetScores(scored.scores[window], scored.features[window]))
        np.testing.assert_allclose(one.probabilities, softmax(wanted), rtol=0, atol=1e-6)


def test_scores_of_several_networks_are_added_by_their_weights(place: Path) -> None:
    names, weights = ("rgb", "differences_of_frames"), (1.0, 0.5)
    networks = [network_of(place, name) for name in names]
    classifier = LiveClassifier(networks, weights, rate_hz=RATE_HZ, window_s=0.2)
    found = classify(classifier, place / "middle.mp4")
    scores = [scores_of_store(place, name)[1].scores.mean(1) for name in names]
    wanted = softmax(np.sum([w * one for w, one in zip(weights, scores, strict=True)], axis=0))
    np.testing.assert_allclose([one.probabilities for one in found], wanted, rtol=0, atol=1e-6)


def test_no_snippet_spans_dropped_frames(place: Path) -> None:
    classifier = LiveClassifier([network_of(place, "differences_of_frames")], [1.0], rate_hz=25)
    frame = np.zeros((48, 64, 3), np.uint8)
    assert classifier.add(frame, 0.0) is None
    assert classifier.add(frame, 0.04) is None
    classifier.restart()
    assert classifier.add(frame, 1.0) is None  # would be the third frame of the first snippet
    assert classifier.add(frame, 1.04) is None
    made = classifier.add(frame, 1.08)
    assert made is not None
    assert (made.time_s, made.end_s) == (1.0, 1.08)


def test_memory_does_not_grow_with_the_video(place: Path) -> None:
    classifier = LiveClassifier([network_of(place, "differences_of_frames")], [1.0], rate_hz=1)
    frame = np.zeros((480, 640, 3), np.uint8)
    tracemalloc.start()
    try:
        sizes = []
        for number in range(200):
            classifier.add(frame, number / 25)
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(sizes[100:]) <= max(sizes[:100]) + frame.nbytes


def test_flow_and_other_classes_are_refused(place: Path, store: Path, tmp_path: Path) -> None:
    run(job(store, tmp_path, "flow", modality="flow", end=1))
    flow = SnippetScorer(tmp_path / "flow", LAST, "cpu")
    with pytest.raises(UsageError, match="choose runs of rgb and rgb_diff"):
        LiveClassifier([flow], [1.0])
    other = network_of(place, "rgb")
    other.facts = replace(other.facts, class_names=("a", "b", "c"))
    with pytest.raises(UsageError, match="knows other classes"):
        LiveClassifier([network_of(place, "rgb"), other], [1.0, 1.0])


def test_a_clock_of_fewer_frames_takes_the_first_frame_of_each_tick() -> None:
    frames = [LiveFrame(np.zeros((2, 2, 3), np.uint8), k / 30, k == 7) for k in range(30)]
    taken = list(resample(iter(frames), 10))
    assert [round(30 * one.time_s) for one in taken] == list(range(0, 30, 3))
    assert [one.dropped for one in taken] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def predict(place: Path, *words: object, code: int = 0) -> tuple[str, str]:
    done = in_process("predict", "--live", *words, cwd=place)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_the_command_prints_json_lines_and_its_speed(place: Path) -> None:
    clip = place / "middle.mp4"
    out, err = predict(place, clip, "rgb", "--json", "--rate", RATE_HZ, "--window", 0.2, "--top", 3)
    lines = [json.loads(line) for line in out.splitlines()]
    times_s, scored = scores_of_store(place, "rgb")
    assert [line["time_s"] for line in lines] == times_s
    wanted = softmax(scored.scores.mean(1))
    for line, likely in zip(lines, wanted, strict=True):
        probabilities = [one["probability"] for one in line["top"]]
        np.testing.assert_allclose(probabilities, np.sort(likely)[::-1], rtol=0, atol=1e-6)
    assert f"{FRAMES} frames in" in err
    assert re.search(r"ms per frame: decode [\d.]+, resize [\d.]+, rgb [\d.]+", err)


def test_the_command_draws_the_classes_into_a_video(place: Path, tmp_path: Path) -> None:
    clip, path = place / "middle.mp4", tmp_path / "drawn.mp4"
    predict(place, clip, "rgb", "--rate", RATE_HZ, "-o", path)
    with open_video(path) as drawn, open_video(clip) as plain:
        pixels, before = (
            np.concatenate([window.data for window in one.windows()]) for one in (drawn, plain)
        )
    assert pixels.shape == before.shape
    change = np.abs(pixels.astype(float) - before).mean(axis=(0, 3))
    assert change[-10:, :10].mean() > 5 * change[:10, -10:].mean()


@pytest.fixture
def server(place: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_each_frame_of_a_stream_is_classified_or_counted_as_dropped(
    place: Path, server: str
) -> None:
    out, err = predict(place, f"{server}/bright.mp4", "rgb", "--json")
    assert json.loads(out.splitlines()[0])["time_s"] == 0
    found = re.search(r"(\d+) frames? in .*?(?:; (\d+) frames? dropped)?$", err.splitlines()[-1])
    assert found is not None
    # frames that are dropped after the last one that was taken are in no count
    assert 0 < int(found[1]) <= int(found[1]) + int(found[2] or 0) <= FRAMES


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("nowhere.mp4", "rgb"), "nowhere.mp4: no such file"),
        (("store-rgb", "rgb"), "store-rgb is a folder; wanted one video file"),
        (("http://127.0.0.1:9/x.mp4", "rgb"), "cannot be opened"),
        (("dark.mp4", "rgb", "-o", "x.gif"), "wanted a name that ends in .mp4"),
        (("dark.mp4", "rgb", "--rate", "1e300"), "not in the range 0<x<=1000"),
        (("dark.mp4", "rgb", "--window", "1e300"), "not in the range 0<x<=86400"),
        (("dark.mp4", "rgb", "--snippets", "3"), "--snippets has no effect on --live"),
        (("single.mp4", "stored_differences"), "too few frames for a snippet (1 frame)"),
    ],
)
def test_wrong_use_is_explained(place: Path, words: tuple[str, ...], answer: str) -> None:
    assert answer in predict(place, *words, code=2)[1]


@pytest.mark.parametrize("name", ["clip.mp4", "linked.mp4"])
def test_the_source_is_not_overwritten(place: Path, tmp_path: Path, name: str) -> None:
    content = (place / "dark.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(content)
    (tmp_path / "linked.mp4").symlink_to("clip.mp4")
    _, err = predict(place, tmp_path / "clip.mp4", "rgb", "-o", tmp_path / name, code=2)
    assert "this is an input file; choose another name" in err
    assert (tmp_path / "clip.mp4").read_bytes() == content


def test_options_of_live_without_it_are_named(place: Path) -> None:
    done = in_process("predict", "dark.mp4", "rgb", "--window", 3, cwd=place)
    assert (done.returncode, "--window: only with --live" in done.stderr) == (2, True)
