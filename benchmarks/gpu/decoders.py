"""Made clips -> stores by NVDEC and by FFmpeg: equal pictures or not, frames per second."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from contents import compare_stores, judge
from folders import ROOT, Folders, Verdict, say
from stores import extract, link

DECODERS = ("cpu", "nvdec")
FRAMES = 60
SIZE, TINY_SIZE = (1920, 1080), (128, 96)
RAW_RGB = "extract: {modalities: [rgb], flow: {name: tvl1}, codecs: {rgb: {name: raw}}}\n"


def nvdec(folders: Folders) -> Verdict:
    """Extract made clips by both decoders, whole and without loss, then resized as by default."""
    env = {**os.environ}
    if folders.rehearse:
        try:
            env = rehearsal_environment(folders.work / "nvdec-driver")
        except Exception as error:
            return Verdict(None, f"the stand-in of NVDEC cannot be used: {error}")
    elif importlib.util.find_spec("PyNvVideoCodec") is None:
        return Verdict(None, "PyNvVideoCodec is not installed")
    size = TINY_SIZE if folders.rehearse else SIZE
    made = make_clips(folders.work / "made", size, FRAMES)
    if not made:
        return Verdict(False, "no clip could be made")
    figures: dict[str, Any] = {}
    differ = []
    for clip in made:
        ran = extract_by_both(
            folders, f"nvdec-{clip.stem}", [clip], 1, keep_size(folders, size), env
        )
        broken = next((found for found in ran.values() if not found["ok"]), None)
        if broken:
            return Verdict(False, f"{clip.stem}: {broken['said']}", ran)
        ours, meant = (folders.stores / f"nvdec-{clip.stem}-{decoder}" for decoder in DECODERS)
        same = judge(compare_stores(ours, meant), exact=True)
        figures[f"{clip.stem}_equal"] = same.ok
        differ += [] if same.ok else [f"{clip.stem}: {same.words}"]
    copies, workers = (1, 2) if folders.rehearse else (8, 4)
    options = ["--modalities", "rgb", "--workers", workers]
    figures |= extract_by_both(folders, "nvdec-all", made, copies, options, env)
    rates = ", ".join(
        f"{decoder} {figures[decoder]['frames_per_s']} frames/s, decoding "
        f"{figures[decoder]['busy_ms'].get('decode', 0):.2f} ms a frame"
        for decoder in DECODERS
    )
    sound = not differ and all(figures[decoder]["ok"] for decoder in DECODERS)
    return Verdict(sound, f"{rates}; pictures {'; '.join(differ) or 'equal'}", figures)


def keep_size(folders: Folders, size: tuple[int, int]) -> list[Any]:
    """Return the options that store the pictures as they are."""
    recipe = folders.work / "rgb-raw.yaml"
    recipe.write_text(RAW_RGB, encoding="utf-8")
    return ["--recipe", recipe, "--size", f"{size[0]}x{size[1]}", "--workers", 1]


def extract_by_both(
    folders: Folders,
    name: str,
    clips: list[Path],
    copies: int,
    options: list[Any],
    env: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """Extract clips with each decoder; return the figures by decoder."""
    videos = link(folders, name, clips, copies)
    device = ["--device", "cuda", "--gpus", "1"]
    return {
        decoder: extract(
            folders, videos, f"{name}-{decoder}", [*options, *device, "--decoder", decoder], env
        )
        for decoder in DECODERS
    }


def make_clips(folder: Path, size: tuple[int, int], frames: int) -> list[Path]:
    """Encode a moving texture as H.264 and HEVC; skip clips whose encoder is missing."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(1)
    coarse = rng.integers(
        0, 256, ((height + frames) // 8 + 1, (width + 2 * frames) // 8 + 1, 3), np.uint8
    )
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    made = []
    for name, encoder in (("h264", "libx264"), ("hevc", "libx265")):
        path = folder / f"{name}.mp4"
        try:
            with av.open(str(path), "w") as file:
                fast = {"preset": "ultrafast"}
                stream: Any = file.add_stream(encoder, rate=25, options=fast)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for k in range(frames):
                    image = np.ascontiguousarray(texture[k : k + height, 2 * k : 2 * k + width])
                    file.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
                file.mux(stream.encode(None))
        except Exception as error:
            say(f"{name} is left out: {type(error).__name__}: {error}")
            continue
        made.append(path)
    return made


def rehearsal_environment(folder: Path) -> dict[str, str]:
    """Return the environment in which the stand-in of the tests plays PyNvVideoCodec."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from nvdec_machine import environment

    return dict(environment(folder))
