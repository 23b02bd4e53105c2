"""`flowpipe info`: a store, one video of it, or a run -> a description as text or JSON."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from flowpipe import params
from flowpipe.cli.folders import RUN_FOLDER, STORE_OR_RUN
from flowpipe.cli.info_run import run_facts, run_rows
from flowpipe.cli.screen import print_table, write_json, write_line
from flowpipe.errors import REASONS, UsageError
from flowpipe.notes import NOTES, count_notes
from flowpipe.run import Quarantine
from flowpipe.store import Store, Video, open_store
from flowpipe.words import byte_size, count_noun, list_some, unknown_name

_SHOWN = 12
"""Maximum number of classes, splits, segments or damaged ranges that are printed."""


@click.command()
@click.argument("store", metavar="STORE|RUN", type=STORE_OR_RUN)
@click.argument("video", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(store: Path, video: str | None, as_json: bool) -> None:
    """Describe a STORE, one VIDEO of it, or a training RUN.

    \b
    flowpipe info demo-store
    flowpipe info demo-store bounce_00 --json
    flowpipe info runs/flow1

    Put -- before an id that begins with a dash: flowpipe info STORE -- -zHX3Gdx6I4
    """
    if RUN_FOLDER.is_at(store):
        if video is not None:
            raise UsageError(f"{store} is a run, which has no videos; leave {video} out")
        of_run = run_facts(store)
        if as_json:
            write_json(of_run)
        else:
            print_table(row for row in run_rows(of_run) if row[1])
        return
    opened = open_store(store)
    if video is None:
        facts = store_facts(opened, store)
        rows = _store_rows(facts)
    else:
        facts = video_facts(find(opened, video))
        rows = _video_rows(facts, opened.header.class_names)
    if as_json:
        write_json(facts)
        return
    print_table((name, words) for name, words in rows if words)
    if video is None:
        write_line("\nrecipe")
        for line in params.dump(facts["recipe"]).splitlines():
            write_line(f"  {line}")


def find(store: Store, video_id: str) -> Video:
    """Return a video of a store; raise UsageError with the nearest ids if it does not exist."""
    if video_id in store.videos:
        return store.videos[video_id]
    raise UsageError(f"{store.path}: {unknown_name('video', video_id, store.videos, most=5)}")


def store_facts(store: Store, path: Path) -> dict[str, Any]:
    """Return the contents of a store as plain values for JSON."""
    videos = list(store.videos.values())
    statuses = Counter(video.status for video in videos)
    classes = Counter(label for video in videos for label in video.labels)
    modalities = store.header.recipe["modalities"]
    notes = count_notes((video.video_id, video.notes) for video in videos)
    return {
        "store": str(path),
        "format_version": store.header.format_version,
        "dataset": store.header.dataset,
        "videos": len(videos),
        "partial_videos": statuses["partial"],
        "incomplete_videos": len(store.incomplete),
        "quarantined": len(Quarantine(path).video_ids()),
        "notes": {note.code: {"videos": note.videos, "example": note.example} for note in notes},
        "classes": len(store.header.class_names),
        "videos_by_class": {
            name: classes[label] for label, name in enumerate(store.header.class_names)
        },
        "videos_by_split": dict(sorted(Counter(s for v in videos for s in v.splits).items())),
        "shards": len(store.shards),
        "frames": sum(video.frames for video in videos),
        "images": {name: sum(v.images[name] for v in videos) for name in modalities},
        "sizes": dict(Counter(filter(None, map(_size_of, videos))).most_common()),
        "bytes": sum(f.stat().st_size for f in path.glob("shards/*.h5")),
        "recipe_digest": store.header.recipe_digest,
        "recipe": store.header.recipe,
    }


def _store_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    source = {key: value for key, value in facts["dataset"].items() if value}
    name = [str(source.pop("dataset"))] if "dataset" in source else []
    parts = {
        "stored in part": facts["partial_videos"],
        "with missing parts": facts["incomplete_videos"],
        "in quarantine": facts["quarantined"],
    }
    extra = "".join(f", {count} {words}" for words, count in parts.items() if count)
    classes = [f"{name} {count}" for name, count in facts["videos_by_class"].items()]
    splits = [f"{name} {count}" for name, count in facts["videos_by_split"].items()]
    notes = [
        f"{count_noun(one['videos'], 'video')}: {NOTES[code].meaning}; as in {one['example']}"
        for code, one in facts["notes"].items()
    ]
    return [
        ("store", f"{facts['store']}, {byte_size(facts['bytes'])} in "
                  f"{count_noun(facts['shards'], 'shard')}, format {facts['format_version']}"),
        ("videos", f"{facts['videos']}{extra}"),
        ("frames", str(facts["frames"])),
        ("images", f"{_counts(facts['images'])}, of {_describe_sizes(facts['sizes'])}"),
        ("classes", f"{len(classes)}: {list_some(classes, _SHOWN)}" if classes else "none"),
        ("splits", list_some(splits, _SHOWN)),
        ("notes", "\n".join(notes)),
        ("data set", ", ".join([*name, *(f"{_plain(k)} {_words(v)}" for k, v in source.items())])),
        ("recipe digest", facts["recipe_digest"]),
    ]  # fmt: skip


def _size_of(video: Video) -> str:
    """Return the size of the images of a video, ``WIDTHxHEIGHT``; empty without images."""
    sizes = (size for name, size in video.size.items() if video.images[name])
    height, width = next(sizes, (0, 0))
    return f"{width}x{height}" if width else ""


def _describe_sizes(sizes: dict[str, int]) -> str:
    if len(sizes) <= 1:
        return f"{next(iter(sizes))} pixels" if sizes else "no size"
    return f"{len(sizes)} sizes: {list_some([f'{size} {n}' for size, n in sizes.items()], 3)}"


def _counts(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.items())


def video_facts(video: Video) -> dict[str, Any]:
    """Return the facts of one video as plain values for JSON.

    For a video that was split into parts, ``facts`` and ``damage`` combine all parts, and ``parts``
    has the frames and the span of each.
    """
    metas = video.part_metas
    values = {key: value for key, value in video.meta.items() if key != "record"}
    parts = [
        {**(meta.get("span") or {}), "frames_decoded": meta["facts"].get("frames_decoded", 0)}
        for meta in metas
    ]
    return {
        "video_id": video.video_id,
        "frames": video.frames,
        "images": dict(video.images),
        "sizes": {name: {"height": h, "width": w} for name, (h, w) in video.size.items()},
        "first_pts_s": float(video.pts_s[0]),
        "last_pts_s": float(video.pts_s[-1]),
        "fps": video.fps,
        "labels": list(video.labels),
        **values,
        "facts": {**combine_facts([meta["facts"] for meta in metas]), "notes": list(video.notes)},
        "damage": [run for meta in metas for run in meta.get("damage", ())],
        "parts": parts if len(parts) > 1 else [],
        "record": video.meta["record"],
    }


def combine_facts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the facts of the parts of a video: sum the counts."""
    sizes = [tuple(size) for facts in parts for size in facts.get("sizes", ())]
    return {
        **parts[0],
        "sizes": [list(size) for size in dict.fromkeys(sizes)],
        "interlaced": any(facts.get("interlaced") for facts in parts),
        **{
            key: sum(int(facts.get(key, 0)) for facts in parts)
            for key in ("frames_decoded", "frames_dropped")
        },
    }


def _video_rows(facts: dict[str, Any], names: tuple[str, ...]) -> list[tuple[str, str]]:
    seen, record = facts["facts"], facts["record"]
    classes = [names[k] if k < len(names) else str(k) for k in facts["labels"]]
    source = facts.get("source") or {}
    stored = {name: f"{one['width']}x{one['height']}" for name, one in facts["sizes"].items()}
    shown = next((size for size in stored.values() if size != "0x0"), "")
    reason = facts.get("reason", "")
    why = f": {REASONS.get(reason, reason)}" if reason else ""
    read = " of ".join(filter(None, [str(seen.get("pixel_format", "")), _source_size(seen)]))
    damage = [
        f"{count_noun(run['frames'], 'frame')} {run['what']} at frame {run['frame']}, "
        f"{run['time_s']:.2f} s"
        for run in facts["damage"]
    ]
    clipped = {
        name: f"{100 * share:.2g} %" for name, share in facts.get("clipped_share", {}).items()
    }
    return [
        ("video", facts["video_id"]),
        ("source", str(record["path"])),
        ("", _file_words(source)),
        ("labels", ", ".join(classes) or "none"),
        ("subset", str(record["subset"])),
        ("splits", ", ".join(record["splits"])),
        ("segments", _segments(record, names)),
        ("status", f"{facts['status']}{why}"),
        ("", str(facts.get("message") or "")),
        ("frames", _frames(facts)),
        ("images", f"{_counts(facts['images'])}{f', of {shown} pixels' if shown else ''}"),
        ("clipped", _counts(clipped)),
        ("decoded", _describe_decoding(seen)),
        ("", ", ".join(filter(None, [seen.get("container"), seen.get("codec"), read]))),
        ("", str(seen.get("decoder", ""))),
        ("colour", " ".join(filter(None, (str(seen.get(f"colour_{key}") or "") for key in
                                          ("matrix", "range", "transfer"))))),
        ("rotation", f"{seen['rotation_deg']} degrees clockwise"
                     if seen.get("rotation_deg") else ""),
        ("notes", "\n".join(_note(note) for note in seen["notes"])),
        ("damage", list_some(damage, _SHOWN)),
        ("parts", "\n".join(map(_part, facts["parts"]))),
    ]  # fmt: skip


def _frames(facts: dict[str, Any]) -> str:
    first, last = facts["first_pts_s"], facts["last_pts_s"]
    if facts["frames"] == 1:
        return f"1, at {first:.2f} s"
    return f"{facts['frames']}, {facts['fps']:.4g} per second, from {first:.2f} to {last:.2f} s"


def _file_words(source: dict[str, Any]) -> str:
    words = [byte_size(source["bytes"])] if "bytes" in source else []
    if source.get("mtime_ns"):
        changed = datetime.fromtimestamp(source["mtime_ns"] / 1e9)
        words.append(f"changed {changed:%Y-%m-%d %H:%M:%S}")
    if source.get("sha256"):
        words.append(f"SHA-256 {source['sha256']}")
    return ", ".join(words)


def _describe_decoding(seen: dict[str, Any]) -> str:
    if not seen["frames_decoded"]:
        return ""  # imported
    return (
        f"{count_noun(seen['frames_decoded'], 'frame')}, {seen['frames_dropped']} of them dropped"
    )


def _source_size(seen: dict[str, Any]) -> str:
    return " and ".join(f"{width}x{height}" for width, height in seen.get("sizes", ()))


def _segments(record: dict[str, Any], names: tuple[str, ...]) -> str:
    found = [
        f"{names[one['label']] if one['label'] < len(names) else one['label']} "
        f"{one['start_s']:g} to {one['end_s']:g} s"
        for one in record["segments"]
    ]
    return list_some(found, _SHOWN)


def _note(note: str) -> str:
    code, _, count = note.partition(":")
    meaning = NOTES[code].meaning if code in NOTES else ""
    return f"{note}: {meaning}" if meaning else note


def _part(part: dict[str, Any]) -> str:
    first, last = part.get("start_s"), part.get("stop_s")
    begin = "the start" if first is None else f"{first:.2f} s"
    end = "the end" if last is None else f"{last:.2f} s"
    return f"from {begin} to {end}: {count_noun(part['frames_decoded'], 'frame')} decoded"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_plain(key)} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return str(value)
