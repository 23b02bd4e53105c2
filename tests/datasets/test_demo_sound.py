"""The demo set of sound: made once, the same on every run, and told apart by sound alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from flowpipe.datasets import DATASETS
from flowpipe.datasets.demo_sound import CLASS_NAMES, VIDEO_IDS, load, make_sound
from flowpipe.errors import DatasetError


def pictures(path: str) -> str:
    """Digest of all frames of a clip."""
    found = hashlib.sha256()
    with av.open(path) as container:
        for frame in container.decode(video=0):
            found.update(frame.to_ndarray(format="gray").tobytes())
    return found.hexdigest()


def test_it_is_made_once_with_the_same_pictures_in_every_clip(tmp_path: Path) -> None:
    done: list[int] = []
    made = load(tmp_path / "set", progress=lambda count, total: done.append(count))
    assert done == list(range(1, 25)) and made.class_names == CLASS_NAMES
    assert [r.video_id for r in made.records] == list(VIDEO_IDS)
    assert sum(r.splits == ("test1",) for r in made.records) == 8
    paths = [record.path for record in made.records]
    assert len({pictures(path) for path in paths[::5]}) == 1
    contents = [Path(path).read_bytes() for path in paths]
    assert len(set(contents)) == 24
    Path(paths[3]).write_bytes(b"damaged")
    again = load(tmp_path / "set")
    assert again == made and [Path(path).read_bytes() for path in paths] == contents
    with pytest.raises(DatasetError, match="of seed 20170305, version 1, wanted seed 7"):
        load(tmp_path / "set", seed=7)


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(DatasetError, match="contains files that are not the demo set of sound"):
        load(tmp_path)
    with pytest.raises(
        DatasetError, match="the demo set of sound needs a folder, but .*mine is a file"
    ):
        load(tmp_path / "mine")


def test_sounds_are_in_full_scale_and_repeat() -> None:
    for video_id in VIDEO_IDS[::3]:
        sound = make_sound(video_id)
        assert sound.shape == (32000,) and 0.1 < np.abs(sound).max() <= 1
        np.testing.assert_array_equal(sound, make_sound(video_id))
        assert not np.array_equal(sound, make_sound(video_id, seed=7))
    assert DATASETS["demo_sound"].made
