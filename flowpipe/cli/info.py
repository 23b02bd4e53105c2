"""`flowpipe info`: a store, or one video of it -> words, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flowpipe.cli.options import STORE_ARGUMENT
from flowpipe.cli.screen import print_table, write_json
from flowpipe.errors import UsageError
from flowpipe.notes import count_notes
from flowpipe.run import Quarantine
from flowpipe.store import Store, Video, open_store
from flowpipe.words import counted, did_you_mean


@click.command()
@STORE_ARGUMENT
@click.argument("video", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(store: Path, video: str | None, as_json: bool) -> None:
    """Say what is in a STORE, or what is known of one VIDEO in it.

    Write -- before an id that begins with a dash: flowpipe info STORE -- -zHX3Gdx6I4
    """
    opened = open_store(store)
    if video is None:
        facts = store_facts(opened, store)
    else:
        facts = video_facts(find(opened, video))
    if as_json:
        write_json(facts)
        return
    print_table((name.replace("_", " "), _words(value)) for name, value in facts.items())


def find(store: Store, video_id: str) -> Video:
    """A video of a store; UsageError with the nearest ids if it is not there."""
    if video_id in store.videos:
        return store.videos[video_id]
    hint = did_you_mean(video_id, store.videos.keys(), most=5, listed="")
    raise UsageError(
        f"the store has no video {video_id!r} among {counted(len(store.videos), 'video')}"
        f"{'; ' if hint else ''}{hint}"
    )


def store_facts(store: Store, path: Path) -> dict[str, Any]:
    """What a store holds, as plain values."""
    videos = list(store.videos.values())
    statuses = [video.meta["status"] for video in videos]
    modalities = store.header.recipe["modalities"]
    notes = count_notes(
        (video.video_id, part["facts"].get("notes", ()))
        for video in videos
        for part in video.part_metas
    )
    return {
        "store": str(path),
        "format_version": store.header.format_version,
        "dataset": store.header.dataset,
        "videos": len(videos),
        "partial_videos": statuses.count("partial"),
        "incomplete_videos": len(store.incomplete),
        "quarantined": len(Quarantine(path).read()),
        "notes": {note.code: {"videos": note.videos, "example": note.example} for note in notes},
        "classes": len(store.header.class_names),
        "shards": len(store.shards),
        "frames": sum(video.frames for video in videos),
        "images": {name: sum(v.images[name] for v in videos) for name in modalities},
        "bytes": sum(f.stat().st_size for f in path.glob("shards/*.h5")),
        "recipe_digest": store.header.recipe_digest,
        "recipe": store.header.recipe,
    }


def video_facts(video: Video) -> dict[str, Any]:
    """What is known of one video, as plain values."""
    return {
        "video_id": video.video_id,
        "frames": video.frames,
        "images": dict(video.images),
        "first_pts_s": float(video.pts_s[0]),
        "last_pts_s": float(video.pts_s[-1]),
        "fps": video.fps,
        "labels": list(video.labels),
        **{key: value for key, value in video.meta.items() if key != "record"},
        "record": video.meta["record"],
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_words, value)) + "]"
    return str(value)
