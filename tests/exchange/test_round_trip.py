"""A store imported from an export is equal: images, timestamps, columns, records."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_making import Made

from flowpipe import open_store
from flowpipe.atomic import draft_name
from flowpipe.errors import RecipeError, UsageError
from flowpipe.exchange import LAYOUTS, WEBDATASET, ExportJob, ImportJob, export_store, import_folder
from flowpipe.exchange.layouts import file_names, folder_paths, safe_name
from flowpipe.modality import MODALITIES
from flowpipe.owner import owner_name
from flowpipe.store import Store, verify_store


def quietly(done: int, total: int) -> None:
    assert done <= total


def there_and_back(made: Made, folder: Path, layout: str, extension: str = ".jpg") -> Store:
    job = ExportJob(made.path, folder / "out", layout, extension=extension, tar_bytes=30_000)
    assert export_store(job, quietly).videos == len(open_store(made.path).videos)
    done = import_folder(ImportJob(folder / "out", folder / "store"), quietly)
    assert done.failed == []
    assert verify_store(folder / "store", decode=True).ok
    return open_store(folder / "store")


def assert_equal(before: Store, after: Store) -> None:
    assert list(before.videos) == list(after.videos)
    assert before.header.class_names == after.header.class_names
    for video_id, video in before.videos.items():
        again = after.videos[video_id]
        assert video.record == again.record
        assert video.images == again.images
        np.testing.assert_array_equal(video.pts_s, again.pts_s)
        for modality, count in video.images.items():
            for column in MODALITIES[modality].columns:
                np.testing.assert_array_equal(
                    before.column(video_id, modality, column.name),
                    after.column(video_id, modality, column.name),
                )
            if count:
                np.testing.assert_array_equal(
                    before.snippet(video_id, modality, 0, count),
                    after.snippet(video_id, modality, 0, count),
                )


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("kind", ["jpeg_store", "lossless_store"])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_import_of_an_export_is_equal(
    layout: str, kind: str, extension: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(kind)
    assert_equal(open_store(made.path), there_and_back(made, tmp_path, layout, extension))


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_jpeg_keeps_colour_and_reports_the_error_of_flow(
    layout: str, jpeg_store: Made, tmp_path: Path
) -> None:
    job = ExportJob(jpeg_store.path, tmp_path / "out", layout, exact=False)
    told = export_store(job, quietly).mean_difference
    import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly)
    before, after = open_store(jpeg_store.path), open_store(tmp_path / "store")
    differences = []
    for video_id, video in before.videos.items():
        for modality, count in video.images.items():
            if not count:
                continue
            old = before.snippet(video_id, modality, 0, count)
            new = after.snippet(video_id, modality, 0, count)
            if MODALITIES[modality].channels == 3:
                np.testing.assert_array_equal(old, new)
                assert before.read_payloads(video_id, modality, 0, count) == after.read_payloads(
                    video_id, modality, 0, count
                )
            else:
                differences.append(np.abs(old.astype(int) - new).mean())
    assert told is not None
    assert 0 < min(differences) and max(differences) < 8  # noise is JPEG's worst case
    assert told == pytest.approx(np.mean(differences), rel=0.3)


@pytest.mark.parametrize(
    ("layout", "first_rgb", "first_flow", "rgb_files"),
    [("dense_flow", 1, 1, 6), ("denseflow", 0, 0, 7), ("mmaction2", 1, 1, 7)],
)
def test_numbers_and_names_of_files_are_those_of_the_tool(
    layout: str, first_rgb: int, first_flow: int, rgb_files: int, jpeg_store: Made, tmp_path: Path
) -> None:
    export_store(ExportJob(jpeg_store.path, tmp_path, layout), quietly)
    (folder,) = (p for p in tmp_path.rglob("*clip#*") if p.is_dir())
    names = sorted(path.name for path in folder.iterdir())
    rgb = [name for name in names if name.startswith("img_")]
    assert rgb == [f"img_{k:05d}.jpg" for k in range(first_rgb, first_rgb + rgb_files)]
    for axis in "xy":
        flow = [name for name in names if name.startswith(f"flow_{axis}_")]
        assert flow == [f"flow_{axis}_{k:05d}.jpg" for k in range(first_flow, first_flow + 6)]
    # Which frame an image is: colour files are the payloads themselves.
    store = open_store(jpeg_store.path)
    frames = [bytes(p) for p in store.read_payloads("folder/clip#[1]", "rgb", 0, 7)]
    second_of_first_flow = first_flow + (0 if layout == "dense_flow" else 1)
    assert (folder / f"img_{second_of_first_flow:05d}.jpg").read_bytes() == frames[1]


def test_a_killed_export_goes_on_and_leaves_no_half_folder(
    jpeg_store: Made, tmp_path: Path
) -> None:
    job = ExportJob(jpeg_store.path, tmp_path / "out", "denseflow")
    export_store(job, quietly)
    shutil.rmtree(tmp_path / "out" / "plain")
    half = tmp_path / "out" / "_hidden"
    (tmp_path / "out" / ".flowpipe" / "videos" / "_hidden.npz").unlink()
    for file in list(half.iterdir())[::2]:
        file.unlink()
    notes = tmp_path / "out" / ".flowpipe" / "videos" / "plain.npz"
    for path in (tmp_path / "out" / "plain", notes):  # half made by a process that was killed
        draft = draft_name(path)
        draft.with_name(draft.name.replace(owner_name(), "dead~0~0~1~1")).mkdir()
    for draft in tmp_path.rglob(".*.tmp"):
        os.utime(draft, (1, 1))
    done = export_store(job, quietly)
    assert (done.videos, done.already) == (2, 4)
    assert not list(tmp_path.rglob(".*.tmp"))
    done = import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly)
    assert (done.videos, done.failed) == (6, [])


def test_a_killed_import_goes_on(jpeg_store: Made, tmp_path: Path) -> None:
    export_store(ExportJob(jpeg_store.path, tmp_path / "out", "denseflow"), quietly)
    victim = tmp_path / "out" / "plain" / "flow_x_00003.jpg"
    content = victim.read_bytes()
    victim.unlink()
    job = ImportJob(tmp_path / "out", tmp_path / "store")
    done = import_folder(job, quietly)
    ((path, message),) = done.failed
    assert path.endswith("plain") and "flow_x_00003.jpg cannot be read" in message
    assert done.videos == 5
    victim.write_bytes(content[:-40])
    assert "flow_x_00003.jpg was changed" in import_folder(job, quietly).failed[0][1]
    victim.write_bytes(content)
    done = import_folder(job, quietly)
    assert (done.videos, done.already, done.failed) == (1, 5, [])
    assert len(open_store(tmp_path / "store").videos) == 6
    assert verify_store(tmp_path / "store").ok


def test_an_export_by_workers_is_equal(jpeg_store: Made, tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        export_store(ExportJob(jpeg_store.path, out, "mmaction2", workers=workers), quietly)
        job = ImportJob(out, tmp_path / f"store{workers}", workers=workers)
        assert import_folder(job, quietly).videos == 6
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.jpg")}
        for n in "12"
    )
    assert one == two


def test_parts_and_modalities_can_be_chosen(jpeg_store: Made, tmp_path: Path) -> None:
    job = ExportJob(
        jpeg_store.path, tmp_path / "a", "denseflow", modalities=("flow",), only=("train1",)
    )
    assert export_store(job, quietly).videos == 6
    assert not list((tmp_path / "a").rglob("img_*"))
    import_folder(ImportJob(tmp_path / "a", tmp_path / "s"), quietly)
    assert open_store(tmp_path / "s").modalities == ("flow",)
    with pytest.raises(UsageError, match="train1, training"):
        export_store(ExportJob(jpeg_store.path, tmp_path / "b", "denseflow", only=("x",)), quietly)
    with pytest.raises(
        UsageError, match="modality 'sound' is unknown; known: rgb, flow, warped_flow"
    ):
        export_store(
            ExportJob(jpeg_store.path, tmp_path / "b", "denseflow", modalities=("sound",)), quietly
        )


def test_another_export_or_import_is_not_mixed_in(jpeg_store: Made, tmp_path: Path) -> None:
    export_store(ExportJob(jpeg_store.path, tmp_path / "out", "denseflow"), quietly)
    with pytest.raises(UsageError, match=r"different: layout"):
        export_store(ExportJob(jpeg_store.path, tmp_path / "out", "dense_flow"), quietly)
    import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly)
    export_store(ExportJob(jpeg_store.path, tmp_path / "tars", WEBDATASET), quietly)
    with pytest.raises(RecipeError, match="another recipe"):
        import_folder(ImportJob(tmp_path / "tars", tmp_path / "store"), quietly)
    with pytest.raises(UsageError, match="its notes describe it"):
        import_folder(ImportJob(tmp_path / "out", tmp_path / "x", layout="denseflow"), quietly)


@pytest.mark.parametrize("kind", ["jpeg_store", "lossless_store"])
def test_a_tar_returns_equal_payloads_and_the_recipe(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(kind)
    before, after = open_store(made.path), there_and_back(made, tmp_path, WEBDATASET)
    assert_equal(before, after)
    assert after.header.recipe_digest == before.header.recipe_digest
    assert len(list((tmp_path / "out").glob("shard-*.tar"))) > 1
    for video_id, video in before.videos.items():
        for modality, count in video.images.items():
            assert before.read_payloads(video_id, modality, 0, count) == after.read_payloads(
                video_id, modality, 0, count
            )


def _entry(name: str, **facts: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(entry, key, value)
    return entry


def _notes(record: object, images: object = (), nested: int = 0) -> bytes:
    values = {"record": record, "images": images or {}, "pts_s": [], "columns": {}, "deep": 0}
    deep = "[" * nested + "0" + "]" * nested
    return json.dumps(values).replace('"deep": 0', f'"deep": {deep}').encode()


HOSTILE = [
    (_entry("a.json", type=tarfile.LNKTYPE, linkname="a.json"), b"", "no ordinary file"),
    (_entry("a.json", type=tarfile.SYMTYPE, linkname="a.json"), b"", "no ordinary file"),
    (_entry("a.json", type=tarfile.FIFOTYPE), b"", "no ordinary file"),
    (
        _entry(
            "a.json",
            pax_headers={"GNU.sparse.size": str(3 << 30), "GNU.sparse.map": "0,0"},
        ),
        b"", "no ordinary file",
    ),
    (_entry("a.json"), b"[" * 100_000, "nested too deeply"),
    (_entry("a.json"), _notes({"video_id": "a", "path": ""}, nested=900), "nested too deeply"),
    (_entry("a.json"), b"null", "must hold an object"),
    (_entry("a.json"), b"\xff", "not valid JSON"),
    (_entry("a.json"), _notes(None), "no record of a video"),
    (_entry("a.json"), _notes({"video_id": 3, "path": ""}), "no record of a video"),
    (_entry("a.json"), _notes({"video_id": "a", "path": ""}, ["rgb"]), "AttributeError"),
    (
        _entry("a.json"),
        _notes({"video_id": "a", "path": ""}, {"rgb": -1}),
        "images must be counts by modality",
    ),
    (_entry("a.json"), _notes({"video_id": "a", "path": ""}, {"sound": 1}), "KeyError"),
]  # fmt: skip


def test_hostile_tars_are_named_and_the_others_go_on(jpeg_store: Made, tmp_path: Path) -> None:
    export_store(ExportJob(jpeg_store.path, tmp_path / "out", WEBDATASET), quietly)
    for number, (entry, content, _) in enumerate(HOSTILE, 100):
        entry.size = len(content)
        with tarfile.open(tmp_path / "out" / f"shard-{number:06d}.tar", "w") as tar:
            tar.addfile(entry, io.BytesIO(content))
    done = import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly)
    said = {Path(path).name: message for path, message in done.failed}
    assert len(said) == len(done.failed) == len(HOSTILE) and done.videos == 6
    for number, (_, _, words) in enumerate(HOSTILE, 100):
        assert words in said[f"shard-{number:06d}.tar"]


def test_a_cut_tar_is_named_and_the_others_go_on(jpeg_store: Made, tmp_path: Path) -> None:
    job = ExportJob(jpeg_store.path, tmp_path / "out", WEBDATASET, tar_bytes=30_000)
    export_store(job, quietly)
    first = tmp_path / "out" / "shard-000000.tar"
    first.write_bytes(first.read_bytes()[:5000])
    done = import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly)
    ((path, message),) = done.failed
    assert path.endswith("shard-000000.tar") and "no complete tar" in message
    assert 0 < done.videos < 6
    first.unlink()
    assert export_store(job, quietly).videos == 6 - done.videos
    assert import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly).failed == []
    assert len(open_store(tmp_path / "store").videos) == 6


@given(
    st.sets(st.text(st.sampled_from("ab_ /.%2F\\"), min_size=1, max_size=6), max_size=12)
)  # fmt: skip
def test_folders_of_videos_are_distinct_and_have_no_blanks(ids: set[str]) -> None:
    folders = folder_paths({video_id: video_id for video_id in ids})
    assert set(folders) == ids and len(set(folders.values())) == len(ids)
    for folder in folders.values():
        assert not set(folder) & set(" \\\t\n")
        assert all(part and not part.startswith(".") for part in folder.split("/"))
        assert not any(other.startswith(f"{folder}/") for other in folders.values())


def test_readable_folders_stay_where_nothing_clashes() -> None:
    ids = ["Diving/v_Diving_g01", "sit down/clip 1.mp4", "../up", "a_b", "a b"]
    folders = folder_paths({video_id: video_id for video_id in ids})
    assert [folders[key] for key in ids] == [
        "Diving/v_Diving_g01", "sit_down/clip_1.mp4", "_./up", "a_b", "a%20b"
    ]  # fmt: skip


def test_a_folder_of_another_video_is_not_taken_for_done(jpeg_store: Made, tmp_path: Path) -> None:
    job = ExportJob(jpeg_store.path, tmp_path / "out", "denseflow")
    export_store(job, quietly)
    notes = tmp_path / "out" / ".flowpipe" / "videos"
    shutil.copy(notes / "_hidden.npz", notes / "plain.npz")
    assert export_store(job, quietly).videos == 1
    assert import_folder(ImportJob(tmp_path / "out", tmp_path / "store"), quietly).failed == []


def test_names_of_folders_are_safe_and_differ() -> None:
    names = ["a b", "a%20b", "a/b", ".a", "..", "x" * 300, "x" * 301, "é\u2028", "a\nb"]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    for name in safe:
        assert not name.startswith(".") and not set(name) & set(" /\\\n\0\u2028")
        assert len(name.encode()) <= 200
    assert file_names("flow", 7, ".jpg") == ("flow_x_00007.jpg", "flow_y_00007.jpg")
    assert file_names("rgb", 7, ".png") == ("img_00007.png",)
