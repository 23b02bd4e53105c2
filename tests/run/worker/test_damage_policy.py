"""Damaged files under each policy: what is stored, and what is reported."""

from __future__ import annotations

import ast
from pathlib import Path

import av
import pytest
from checkout import ROOT
from videofile import encode_video, moving_clip

from flowpipe import open_store, params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.notes import NOTES, count_notes, join_notes
from flowpipe.run import policy_shown
from flowpipe.run.ledger import Ledger
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.planning.spans import shard_name
from flowpipe.run.worker.shard_job import ShardJob, extract_shard
from flowpipe.store import create_store
from flowpipe.types import Outcome, Span, VideoRecord

FRAMES = 60
RECIPE = params.build(ExtractRecipe, {"modalities": ["rgb"]}, where="test")
CONTAINERS = ("mp4", "mkv", "avi", "ts")


@pytest.fixture(scope="module", params=CONTAINERS)
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames, a keyframe every 20."""
    path = tmp_path_factory.mktemp("good") / f"clip.{request.param}"
    codec = "mpeg4" if request.param == "avi" else "libx264"
    return encode_video(path, moving_clip(FRAMES), codec=codec, gop=20, b_frames=0)


def extract(path: Path, tmp_path: Path, policy: str, max_damaged: float = 0.01) -> Outcome:
    """Extract one video into a store of its own."""
    store, heartbeat_folder = tmp_path / f"store-{policy}", tmp_path / f"heartbeats-{policy}"
    heartbeat_folder.mkdir()
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    span = Span(VideoRecord("clip", str(path)))
    shard = ShardPlan(shard_name([span.key]), (span,), 1.0, 1)
    job = ShardJob(
        store=str(store),
        heartbeat_folder=str(heartbeat_folder),
        shard=shard,
        recipe=RECIPE,
        device="cpu",
        options=WorkerOptions(on_error=policy, max_damaged=max_damaged, stall_s=60),
    )
    (outcome,) = extract_shard(job)
    ledger = Ledger(store)
    ledger.write(outcome)
    ledger.close()
    return outcome


def hurt(good: Path, tmp_path: Path) -> Path:
    """Overwrite some of the bytes of one picture near the middle of the file."""
    with av.open(str(good)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    chosen = sorted(packets, key=lambda p: p.dts)[25]
    content = bytearray(good.read_bytes())
    body = bytes(chosen)
    # transport streams interleave headers, so the test searches for a piece of the packet
    at = content.find(body[40:100])
    assert at >= 0
    content[at : at + 60] = bytes([0xFF]) * 60
    path = tmp_path / good.name
    path.write_bytes(content)
    return path


def test_each_policy_keeps_the_documented_frames_of_a_damaged_video(
    good: Path, tmp_path: Path
) -> None:
    path = hurt(good, tmp_path)
    for policy in ("skip", "fail"):
        refused = extract(path, tmp_path, policy)
        assert (refused.status, refused.reason) == ("failed", "corrupt"), policy
        assert "--on-error conceal" in refused.message
    partial = extract(path, tmp_path, "partial")
    assert (partial.status, partial.reason) == ("partial", "corrupt")
    assert 15 <= partial.frames < 40, "up to the damage"
    concealed = extract(path, tmp_path, "conceal")
    assert (concealed.status, concealed.reason) == ("done", "corrupt")
    assert "may be wrong" in concealed.message
    video = open_store(tmp_path / "store-conceal").videos["clip"]
    runs = video.meta["damage"]
    lost = sum(run["frames"] for run in runs if run["what"] == "lost")
    assert runs
    assert concealed.frames + lost == FRAMES
    assert all(15 <= run["frame"] <= 40 for run in runs), "healed by the next keyframe"
    assert [round(t * 25) for t in video.pts_s[-10:]] == [
        round(video.pts_s[-1] * 25) - 9 + k for k in range(10)
    ]
    found = {note.code for note in count_notes([("clip", concealed.notes)])}
    assert found & {"lost_frames", "damaged_frames"}
    assert policy_shown(tmp_path / "store-conceal") == "conceal"
    assert policy_shown(tmp_path / "store-partial") == "partial"
    assert policy_shown(tmp_path / "store-skip") == "skip"


def test_damage_below_the_share_is_done_and_noted(good: Path, tmp_path: Path) -> None:
    outcome = extract(hurt(good, tmp_path), tmp_path, "skip", max_damaged=0.9)
    assert (outcome.status, outcome.reason) == ("done", "")
    assert count_notes([("clip", outcome.notes)])
    assert open_store(tmp_path / "store-skip").videos["clip"].meta["damage"]


def test_an_intact_video_has_no_damage(good: Path, tmp_path: Path) -> None:
    outcome = extract(good, tmp_path, "conceal")
    assert (outcome.status, outcome.reason, outcome.frames) == ("done", "", FRAMES)
    assert open_store(tmp_path / "store-conceal").videos["clip"].meta["damage"] == []


@pytest.mark.parametrize("policy", ["partial", "conceal"])
def test_a_file_that_was_cut_off_is_partial(policy: str, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mkv", moving_clip(FRAMES))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    outcome = extract(path, tmp_path, policy)
    assert (outcome.status, outcome.reason) == ("partial", "corrupt")
    assert 0 < outcome.frames < FRAMES


def test_one_bad_unit_costs_at_most_one_frame_of_a_public_file(
    shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data.parent / "findings" / "bugs" / "files" / "onebad.mp4"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    assert extract(path, tmp_path, "conceal").frames in (49, 50)


def test_a_damaged_part_of_a_split_video_fails(good: Path, tmp_path: Path) -> None:
    store, heartbeat_folder = tmp_path / "store", tmp_path / "heartbeats"
    heartbeat_folder.mkdir()
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    span = Span(VideoRecord("clip", str(hurt(good, tmp_path))), 0, 2)
    shard = ShardPlan(shard_name([span.key]), (span,), 1.0, 1)
    job = ShardJob(
        store=str(store),
        heartbeat_folder=str(heartbeat_folder),
        shard=shard,
        recipe=RECIPE,
        device="cpu",
        options=WorkerOptions(on_error="conceal", stall_s=60),
    )
    (outcome,) = extract_shard(job)
    assert (outcome.status, outcome.reason) == ("failed", "corrupt")


def test_every_note_that_decoding_makes_has_a_meaning() -> None:
    made: set[str] = set()
    for path in (ROOT / "flowpipe" / "video").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("notes"):
                if isinstance(node.slice, ast.Constant):
                    made.add(str(node.slice.value))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "notes.append":
                if isinstance(node.args[0], ast.Constant):
                    made.add(str(node.args[0].value))
    assert len(made) > 10
    assert made <= NOTES.keys()


def test_counts_of_the_notes_of_parts_add_up_and_indices_do_not() -> None:
    parts = ["lost_frames:3", "interlaced", "video_stream:1", "lost_frames:2", "video_stream:1"]
    assert join_notes(parts) == ["lost_frames:5", "interlaced", "video_stream:1"]
