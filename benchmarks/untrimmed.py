"""Untrimmed videos of real clips -> accuracy of M-TWI and of plain averaging.

    python benchmarks/ut_interaction.py --work ut --streams rgb,rgb_diff    first: the networks
    python benchmarks/ut_interaction.py --work ut --ablations --only consensus
    python benchmarks/untrimmed.py --work ut [--folds 1,2,3,4,5] [--seconds 45] [--rate 2]

Each of the 60 clips of UT-Interaction, some 4 s, is hidden in a video of its own between unrelated
clips of UCF101, HMDB51 and Kinetics, and classified by the networks that never saw its sequence.
They were trained on short clips only, without a background class, with average, top-k and attention
as consensus. Plain averaging uses the paper's 25 snippets in one row, and in another the snippets
of M-TWI, so that only the pooling differs. Figures are means over the folds, because scores of
different networks are not comparable. Missing networks are skipped. An interrupted run is resumed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from ut_interaction import SHARED, ListedClip, file_name, flowpipe, read_list

from flowpipe.evaluation import PROTOCOLS, evaluate
from flowpipe.ops import get_ops
from flowpipe.store import open_store
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES
from flowpipe.tsn.device import keep_freed_memory
from flowpipe.tsn.recipe import TestParams
from flowpipe.tsn.run_folder import LAST
from flowpipe.tsn.testing.pooling import Pooling
from flowpipe.tsn.testing.scorer import SnippetScorer, SnippetScores
from flowpipe.tsn.testing.test import snippets_of
from flowpipe.video import open_video

FPS, HEIGHT, WIDTH = 30, 256, 340
STREAMS = ("rgb", "rgb_diff")
NETWORKS: Mapping[str, Callable[[int], str]] = {
    "rgb": "rgb-{}".format,
    "rgb_diff": "rgb_diff-{}".format,
    "rgb, top-2": partial(file_name, "top-2 consensus"),
    "rgb, attention": partial(file_name, "attention consensus"),
}
"""Name in the table -> function from a fold to its run folder."""
WAYS: Mapping[str, TestParams] = {
    "25 snippets, mean": TestParams(consensus="average", crops="1"),
    "25 snippets, as trained": TestParams(crops="1"),
    "all snippets, mean": TestParams(protocol="mtwi", crops="1"),
    "M-TWI code, average": TestParams(protocol="mtwi", crops="1", consensus="average"),
    "M-TWI code, top-k": TestParams(protocol="mtwi", crops="1", consensus="top_k"),
    "M-TWI paper, top-k": TestParams(protocol="mtwi", crops="1", consensus="top_k", mtwi="paper"),
    "M-TWI code, attention": TestParams(protocol="mtwi", crops="1", consensus="attention"),
}
"""Ways to combine snippets. The third is the mean over the snippets of M-TWI."""
FIGURES = {"kinetics": "accuracy", "thumos14": "mAP, THUMOS14", "activitynet": "mAP, ActivityNet"}
"""First figure of each protocol."""
PARTS = ("scores", "features")
Scores = NDArray[np.float64]


def main() -> None:
    """Build, extract, test, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of ut_interaction.py")
    parser.add_argument("--folds", default="1,2,3,4,5")
    parser.add_argument(
        "--seconds", type=float, default=45.0, help="seconds of background per video"
    )
    parser.add_argument("--streams", default=",".join(STREAMS), help="modalities to extract")
    parser.add_argument("--rate", type=float, default=2.0, help="snippets a second of M-TWI")
    chosen = parser.parse_args()
    folder = chosen.work / f"untrimmed-{chosen.seconds:g}s"
    clips = read_list(SHARED / "action" / "utinteraction")
    folds = [int(fold) for fold in chosen.folds.split(",")]
    build(folder, clips, folds, chosen.seconds)
    streams = chosen.streams.split(",")
    flowpipe(
        "extract", "--videos", folder / "list.csv", "--out", folder / "store", "--recipe",
        Path(__file__).with_name("ut_interaction.yaml"), "--modalities", chosen.streams,
        "--workers", 1,
    )  # fmt: skip
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {fold: test(folder, chosen.work / "true", fold, chosen.rate, streams) for fold in folds}
    show(folder, found)


def frames_of(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Return the frames of a clip at the size of the store."""
    ops = get_ops()
    with open_video(path) as video:
        for window in video.windows():
            yield from ops.resize(window.data, HEIGHT, WIDTH)


def build(folder: Path, clips: Sequence[ListedClip], folds: Sequence[int], seconds: float) -> None:
    """Make a video for each clip: background, clip, background. Existing videos are kept."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    unrelated = sorted(p for p in (SHARED / "clips").rglob("*") if p.suffix in (".avi", ".mp4"))
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video_id", "path", "label", "split"))
        for number, clip in enumerate(clips):
            if clip.fold in folds:
                path = folder / "videos" / f"{clip.video_id}.mp4"
                table.writerow((clip.video_id, path.resolve(), clip.label, f"test{clip.fold}"))
                if not path.exists():
                    rng = np.random.default_rng(number)
                    before = round(rng.uniform(0.2, 0.8) * seconds * FPS)
                    draft = path.with_suffix(".part.mp4")
                    write(draft, clip.path, unrelated, before, round(seconds * FPS) - before, rng)
                    draft.rename(path)


def write(
    path: Path,
    action: Path,
    unrelated: Sequence[Path],
    before: int,
    after: int,
    rng: np.random.Generator,
) -> None:
    """Write one untrimmed video."""

    def background() -> Iterator[NDArray[np.uint8]]:
        while True:
            for k in rng.permutation(len(unrelated)):
                yield from frames_of(unrelated[k])

    rest = background()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", FPS, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        parts = (next(rest) for _ in range(before)), frames_of(action), (
            next(rest) for _ in range(after)
        )  # fmt: skip
        number = 0
        for part in parts:
            for image in part:
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts = number
                number += 1
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test(
    folder: Path, runs: Path, fold: int, rate_hz: float, streams: Sequence[str]
) -> dict[str, dict[str, Scores]]:
    """Return the scores (N, C) of a fold's videos by network and way to combine snippets."""
    found = {}
    for name, run_of in NETWORKS.items():
        run = runs / run_of(fold)
        if name.partition(",")[0] in streams and (run / LAST).exists():
            network = SnippetScorer(run, LAST, "cpu")
            found[name] = combine(network, snippets(folder, network, name, fold, rate_hz))
    if set(STREAMS) <= found.keys():
        found[" + ".join(STREAMS)] = {
            way: np.sum([found[name][way] for name in STREAMS], axis=0) for way in found["rgb"]
        }
    return found


def snippets(
    folder: Path, network: SnippetScorer, name: str, fold: int, rate_hz: float
) -> dict[str, list[SnippetScores]]:
    """Return the snippet scores of a fold's videos by protocol; they are cached on disk."""
    kept = folder / f"{name.replace(', ', '-')}-{fold}-{rate_hz:g}hz.npz"
    if not kept.exists():
        store, made = open_store(folder / "store"), {}
        for video_id in videos_of(folder, fold):
            for protocol in ("dense", "mtwi"):
                params = TestParams(protocol=protocol, crops="1", rate_hz=rate_hz)  # type: ignore[arg-type]
                _, one = snippets_of(
                    network, store, video_id, params, SAMPLING_STRATEGIES["tsn_pytorch"]
                )
                made[f"{protocol}/{video_id}/scores"] = one.scores
                made[f"{protocol}/{video_id}/features"] = one.features
        np.savez(kept, **made)
    with np.load(kept) as there:
        return {
            protocol: [
                SnippetScores(*(there[f"{protocol}/{key}/{part}"] for part in PARTS))
                for key in videos_of(folder, fold)
            ]
            for protocol in ("dense", "mtwi")
        }


def combine(network: SnippetScorer, of: Mapping[str, Sequence[SnippetScores]]) -> dict[str, Scores]:
    """Return the scores (N, C) of videos by each way that the network supports."""
    stream, found = network.facts.stream, {}
    for way, params in WAYS.items():
        if params.consensus == "attention" and stream.consensus != "attention":
            continue
        mean = way == "all snippets, mean"
        pooling = Pooling(
            TestParams(consensus="average") if mean else params, stream, network.model.consensus
        )
        found[way] = np.stack([pooling(one) for one in of[params.protocol]])
    return found


def videos_of(folder: Path, fold: int) -> list[str]:
    """Return the ids of a fold's test videos."""
    videos = open_store(folder / "store").videos
    return [key for key, video in videos.items() if f"test{fold}" in video.splits]


def show(folder: Path, found: Mapping[int, Mapping[str, Mapping[str, Scores]]]) -> None:
    """Print the table of means over the folds."""
    store = open_store(folder / "store")
    classes = len(store.header.class_names)
    truth = {
        fold: np.array([[k in store.videos[key].labels for k in range(classes)]
                        for key in videos_of(folder, fold)])
        for fold in found
    }  # fmt: skip
    length = np.mean([store.videos[key].pts_s[-1] for key in store.videos])
    count = sum(map(len, truth.values()))
    print(f"\n{count} videos of {length:.0f} s, folds {', '.join(map(str, found))}; %")
    print(f"{'':45}" + "".join(f"{name:>20}" for name in FIGURES.values()))
    for name, ways in next(iter(found.values())).items():
        for way in ways:
            values = []
            for how in FIGURES:
                figures = (
                    evaluate(PROTOCOLS[how], of[name][way], truth[fold]).figures
                    for fold, of in found.items()
                )
                values.append(np.mean([next(iter(one.values())) for one in figures]))
            print(f"{name + ': ' + way:45}" + "".join(f"{100 * v:20.1f}" for v in values))


if __name__ == "__main__":
    main()
