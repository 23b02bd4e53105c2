"""A new modality is one row and its maker: extraction, store, pictures and exchange take it so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.exchange import export_store, import_folder
from flowpipe.exchange.job import ExportJob, ImportJob
from flowpipe.extraction.planes import MAKERS
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.modality import MODALITIES, Column, Modality
from flowpipe.ops import get_ops
from flowpipe.report.sheet import store_sheet
from flowpipe.run.worker.output import open_writer
from flowpipe.store import create_store, open_store
from flowpipe.store.check import check_shard
from flowpipe.types import Span, VideoRecord

FRAMES = 6
LUMA = Modality(
    "luma", ("luma",), context=0, zero_level=None, maker="luma", codec="jpegls", subsampling="gray",
    bytes_per_pixel=0.5, snippet_length=1, files=("luma",), columns=(Column("mean", "<f4"),),
)  # fmt: skip


def make_luma(window: Any) -> tuple[Any, dict[str, Any]]:
    images = window.maker.ops.to_host(window.gray)[window.carried :][: len(window.owned)]
    return images[:, None], {"mean": images.mean((1, 2)).astype("<f4")}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one clip, in rgb and luma, extracted in this process."""
    monkeypatch.setitem(MODALITIES, LUMA.name, LUMA)
    monkeypatch.setitem(MAKERS, LUMA.maker, make_luma)
    clip = encode_video(tmp_path / "clip.mp4", moving_clip(FRAMES))
    values = {"modalities": ["rgb", "luma"], "size": {"width": 64, "height": 48}}
    values["codecs"] = {"rgb": {"name": "jpegls"}}
    recipe, ops = params.build(ExtractRecipe, values, where="extract"), get_ops()
    path = tmp_path / "store"
    create_store(
        path, recipe=params.canonical(recipe), recipe_digest=params.digest(recipe), dataset={},
        class_names=("one",),
    )  # fmt: skip
    span = Span(VideoRecord("clip", str(clip), labels=(0,), splits=("train1",)))
    with open_writer(path / "shards" / "shard-0.h5", recipe, ops) as writer:
        writer.begin(span)
        for window in Extraction(span, recipe, ops):
            for encoded in window.encoded:
                writer.append(encoded)
            writer.append_pts(window.pts_s)
        writer.commit({})
        writer.publish()
    return path


def test_it_is_stored_checked_and_read(store: Path) -> None:
    opened = open_store(store)
    assert opened.modalities == ("rgb", "luma")
    assert opened.videos["clip"].images == {"rgb": FRAMES, "luma": FRAMES}
    rgb, luma = (opened.snippet("clip", name, 0, FRAMES) for name in opened.modalities)
    assert luma.shape == (FRAMES, 1, 48, 64)
    gray = get_ops().to_host(get_ops().gray(np.ascontiguousarray(rgb.transpose(0, 2, 3, 1))))
    np.testing.assert_array_equal(luma[:, 0], gray)
    means = opened.column("clip", "luma", "mean")
    np.testing.assert_allclose(means, gray.mean((1, 2)), rtol=1e-6)
    (shard,) = (store / "shards").iterdir()
    assert check_shard(shard, opened.header.recipe_digest, decode=True)["faults"] == []


def test_it_is_shown_exported_and_imported(store: Path, tmp_path: Path) -> None:
    assert store_sheet(open_store(store)).ndim == 3
    out = tmp_path / "frames"
    export_store(ExportJob(store, out, "mmaction2", extension=".png"), lambda done, count: None)
    files = sorted(path.name for path in out.rglob("luma_*.png"))
    assert files == [f"luma_{k:05d}.png" for k in range(1, FRAMES + 1)]
    again = tmp_path / "again"
    import_folder(ImportJob(out, again), lambda done, count: None)
    before, after = open_store(store), open_store(again)
    assert after.modalities == before.modalities
    for name in before.modalities:
        np.testing.assert_array_equal(
            after.snippet("clip", name, 0, FRAMES), before.snippet("clip", name, 0, FRAMES)
        )
