"""Compare the bytes of a recipe with 1 and 3 workers, and after kill -9 and a resume.

    python benchmarks/same_bytes.py [--videos FOLDER]

Real clips, TV-L1, all four modalities. Prints a line per comparison; exits with 1 on a difference.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flowpipe import open_store

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))


def command(videos: Path, store: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "flowpipe", "extract", "--videos", str(videos), "--out", str(store),
        "--workers", str(workers), "--modalities", "rgb,flow,warped_flow,rgb_diff",
    ]  # fmt: skip


def images(store: Path) -> dict[tuple[str, str], list[bytes]]:
    opened = open_store(store)
    return {
        (video_id, modality): [bytes(b) for b in opened.read_payloads(video_id, modality, 0, count)]
        for video_id, video in opened.videos.items()
        for modality, count in video.images.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=SHARED / "clips" / "ucf101" / "BenchPress")
    videos = parser.parse_args().videos
    with tempfile.TemporaryDirectory() as folder:
        one, three, killed = (Path(folder) / name for name in ("one", "three", "killed"))
        subprocess.run(command(videos, one, 1), check=True, capture_output=True)
        subprocess.run(command(videos, three, 3), check=True, capture_output=True)
        process = subprocess.Popen(
            command(videos, killed, 2), start_new_session=True, stderr=subprocess.DEVNULL
        )
        while not any(killed.glob("shards/shard-*.h5")) and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        survived = len(open_store(killed).videos)
        subprocess.run(command(videos, killed, 2), check=True, capture_output=True)
        want = images(one)
        same = {
            "3 workers": images(three) == want,
            f"kill -9 after {survived} of {len(open_store(one).videos)} videos, resumed": (
                images(killed) == want
            ),
        }
    count = sum(map(len, want.values()))
    for name, equal in same.items():
        print(f"{name}: {'the same bytes' if equal else 'DIFFERENT BYTES'} in {count} images")
    sys.exit(not all(same.values()))


if __name__ == "__main__":
    main()
