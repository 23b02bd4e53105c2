"""Stores made on a GPU, compared with the CPU's and with each other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from folders import FLOWPIPE, Folders, Verdict, last_line, run, say
from stores import describe, extract, link

SUMS = ("values", "differ", "beyond", "worst")
MOST_BEYOND = 1e-3
"""Share of flow's bytes that may differ by more than one level between the devices."""
RAW = """\
extract:
  modalities: [rgb, flow, warped_flow, rgb_diff]
  flow: {name: tvl1}
  codecs: {rgb: {name: raw}, flow: {name: raw}, warped_flow: {name: raw}, rgb_diff: {name: raw}}
"""


def compare_stores(ours: Path, meant: Path) -> dict[str, dict[str, float]]:
    """Compare two stores; return by modality: values, differing, by over a level, largest."""
    from flowpipe import open_store

    stores = open_store(ours), open_store(meant)
    if set(stores[0].videos) != set(stores[1].videos):
        raise ValueError(f"{ours.name} and {meant.name} have different videos")

    def one(task: tuple[str, str, int]) -> tuple[str, int, int, int, int]:
        video_id, modality, count = task
        total = [0, 0, 0, 0]
        for start in range(0, count, 64):
            length = min(64, count - start)
            a, b = (s.snippet(video_id, modality, start, length).astype(np.int16) for s in stores)
            off = np.abs(a - b)
            row = off.size, int((off > 0).sum()), int((off > 1).sum()), int(off.max(initial=0))
            total = [x + y for x, y in zip(total[:3], row[:3], strict=True)] + [
                max(total[3], row[3])
            ]
        return modality, total[0], total[1], total[2], total[3]

    tasks = []
    for video_id, video in stores[0].videos.items():
        if video.images != stores[1].videos[video_id].images:
            raise ValueError(f"{video_id} has other numbers of images in {meant.name}")
        tasks += [(video_id, modality, count) for modality, count in video.images.items()]
    found: dict[str, dict[str, float]] = {}
    with ThreadPoolExecutor(8) as pool:
        for modality, *row in pool.map(one, tasks):
            sums = found.setdefault(modality, dict.fromkeys(SUMS, 0))
            for key, value in zip(("values", "differ", "beyond"), row, strict=False):
                sums[key] += value
            sums["worst"] = max(sums["worst"], row[3])
    return found


def judge(found: dict[str, dict[str, float]], exact: bool) -> Verdict:
    """Tell whether two stores are equal, or near enough where flow may differ by rounding."""
    from flowpipe.modality import MODALITIES

    wrong, words = [], []
    for modality, sums in found.items():
        share = sums["beyond"] / max(1, sums["values"])
        say(f"{modality:12} {int(sums['differ'])} of {int(sums['values'])} values differ, "
            f"{share:.4%} by more than a level, at most by {int(sums['worst'])}")  # fmt: skip
        same = exact or not MODALITIES[modality].is_flow
        if sums["differ"] if same else share > MOST_BEYOND:
            wrong.append(modality)
        words.append(
            f"{modality} {int(sums['differ'])} differ" if same else f"{modality} {share:.4%}"
        )
    limit = "" if exact else f" beyond a level (at most {MOST_BEYOND:.1%})"
    text = f"{', '.join(words) or 'nothing was compared'}{limit}"
    text += f"; TOO MANY: {', '.join(wrong)}" if wrong else ""
    return Verdict(bool(found) and not wrong, text, found)


def against_cpu(folders: Folders) -> Verdict:
    """Extract on the GPU and on the CPU without loss; compare what was computed."""
    recipe = folders.work / "raw.yaml"
    recipe.write_text(RAW, encoding="utf-8")
    videos = link(folders, "raw", folders.clips()[:4], 1)
    cores = 2 if folders.rehearse else 8
    for device, more in (("cuda", ["--gpus", "1", "--workers", min(4, cores)]),
                         ("cpu", ["--workers", cores])):  # fmt: skip
        options = ["--recipe", recipe, "--device", device, *more]
        figures = extract(folders, videos, f"raw-{device}", options)
        say(describe(figures))
        if not figures["ok"]:
            return Verdict(False, f"{device}: {figures['said']}", figures)
    return judge(
        compare_stores(folders.stores / "raw-cuda", folders.stores / "raw-cpu"), exact=False
    )


def same_bytes(folders: Folders) -> Verdict:
    """Compare the bytes that one worker has stored with those that most workers have."""
    one = folders.stores / "extract-1"
    many = [folders.stores / f"extract-{name}" for name in ("fill", "16", "8", "4")]
    other = next((store for store in many if (store / "store.json").is_file()), None)
    if other is None or not (one / "store.json").is_file():
        return Verdict(None, "wants the stores of extract:1 and of another step of extract")
    found = compare_bytes(one, other)
    words = judge(found, exact=True)
    return Verdict(words.ok, f"{one.name} beside {other.name}, images: {words.words}", found)


def compare_bytes(ours: Path, meant: Path) -> dict[str, dict[str, float]]:
    """Compare the encoded images of the videos that both stores have, by modality."""
    from flowpipe import open_store

    stores = open_store(ours), open_store(meant)
    found: dict[str, dict[str, float]] = {}
    for video_id in sorted(set(stores[0].videos) & set(stores[1].videos)):
        for modality, count in stores[0].videos[video_id].images.items():
            a, b = (store.read_payloads(video_id, modality, 0, count) for store in stores)
            sums = found.setdefault(modality, dict.fromkeys(SUMS, 0))
            sums["values"] += count
            sums["differ"] += sum(bytes(x) != bytes(y) for x, y in zip(a, b, strict=True))
    return found


def verify(folders: Folders) -> Verdict:
    """Run `flowpipe verify` on every store, and on one of them with every image decoded."""
    found = sorted(path.parent for path in folders.stores.glob("*/store.json"))
    if not found:
        return Verdict(None, "wants a store of another step")
    bad = []
    for store, more in [*((store, []) for store in found), (found[0], ["--decode"])]:
        done = run([*FLOWPIPE, "verify", store, "--workers", os.cpu_count() or 1, *more])
        if done.returncode:
            bad.append(f"{store.name}: {last_line(done.stdout + done.stderr)}")
    words = f"{len(found)} stores, {found[0].name} decoded: {'; '.join(bad) or 'all whole'}"
    return Verdict(not bad, words, {"stores": len(found), "bad": bad})
