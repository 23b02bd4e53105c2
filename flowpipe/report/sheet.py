"""Store -> contact sheets: an overview of the extracted images.

Flow has the colours of `report.colours`, at one scale for the whole sheet, so that the colours of
flow and warped flow can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.modality import HOMOGRAPHY, MODALITIES
from flowpipe.notes import count_notes
from flowpipe.report.colours import flow_colours
from flowpipe.report.page import SOFT, WARNING, Page, scale_to, text_width
from flowpipe.store import Store, Video
from flowpipe.words import count_noun

T = TypeVar("T")

_MARGIN, _GAP, _KEY = 28, 10, 72
_NAMES_WIDTH = 178
_FULL_COLOURS = (
    2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000,
)  # fmt: skip
_CANDIDATES = 64  # videos among which some of different classes are chosen


def contact_sheet(
    store: Store, video_id: str, *, columns: int = 6, cell_px: int = 232
) -> NDArray[np.uint8]:
    """Draw one video: one row per modality, one column per evenly spaced time.

    Parameters
    ----------
    store : Store
        Store of the video.
    video_id : str
        Id of the video.
    columns : int
        Number of times shown; fewer if the video has fewer images.
    cell_px : int
        Longer side of a picture, in pixels.

    Returns
    -------
    uint8 (H, W, 3)
        RGB.

    Raises
    ------
    KeyError
        If the store has no such video.
    ValueError
        If `columns` or `cell_px` is too small.
    """
    _check(columns, cell_px)
    video = store.videos[video_id]
    numbers = _choose_times(video, columns)
    cells = {name: _Cells(store, video_id, name, numbers) for name in store.modalities}
    full = _full_colour(row.flow for row in cells.values())
    width, height = _cell_size([video], cell_px)
    left = _MARGIN + _NAMES_WIDTH
    top = _MARGIN + _KEY + 44
    page = Page(
        max(left + len(numbers) * (width + _GAP) - _GAP + _MARGIN, 720),
        top + len(cells) * (height + _GAP) - _GAP + _MARGIN,
    )
    _write_head(
        page, video_id, _facts(store, video), full if _has_flow(store) else None, _notes(video)
    )
    pts_s = video.pts_s
    for column, number in enumerate(numbers):
        x = left + column * (width + _GAP)
        seconds = f"{pts_s[number]:.2f} s"
        page.write(seconds, x, top - 9, 12, bold=True)
        page.write(
            f"frame {number}", x + text_width(seconds, 12, True) + 8, top - 9, 11, colour=SOFT
        )
    for row, (name, shown) in enumerate(cells.items()):
        y = top + row * (height + _GAP)
        _write_lines(page, y, name, _modality_lines(store, video, name), width=_NAMES_WIDTH - 14)
        for column in range(len(numbers)):
            x = left + column * (width + _GAP)
            _draw_scaled(page, shown.picture(column, full), x, y, width=width, height=height)
    return page.pixels


def store_sheet(store: Store, *, videos: int = 8, cell_px: int = 232) -> NDArray[np.uint8]:
    """Draw some videos of a store, one row each, of different classes if it has classes.

    Parameters
    ----------
    store : Store
        Store with at least one video.
    videos : int
        Maximum number of rows.
    cell_px : int
        Longer side of a picture, in pixels.

    Returns
    -------
    uint8 (H, W, 3)
        RGB. Of five times of each video, the one with most motion is shown.
    """
    _check(videos, cell_px)
    chosen = choose_videos(store, videos)
    if not chosen:
        raise ValueError(f"{store.path} has no videos to draw")
    names = store.modalities
    numbers = [_largest_motion(store, video) for video in chosen]
    cells = [
        [_Cells(store, video.video_id, name, [number]) for name in names]
        for video, number in zip(chosen, numbers, strict=True)
    ]
    full = _full_colour(shown.flow for row in cells for shown in row)
    width, height = _cell_size(chosen, cell_px)
    left = _MARGIN + _NAMES_WIDTH
    top = _MARGIN + _KEY + 44
    page = Page(
        max(left + len(names) * (width + _GAP) - _GAP + _MARGIN, 720),
        top + len(chosen) * (height + _GAP) - _GAP + _MARGIN,
    )
    _write_head(page, store.path.name, _store_facts(store), full if _has_flow(store) else None)
    for column, name in enumerate(names):
        page.write(name, left + column * (width + _GAP), top - 9, 12, bold=True, width=width)
    for row, (video, number) in enumerate(zip(chosen, numbers, strict=True)):
        y = top + row * (height + _GAP)
        lines = [*_class_lines(store, video), f"frame {number} of {video.frames}"]
        lines.append(f"{video.pts_s[number]:.2f} s")
        _write_lines(page, y, video.video_id, lines, width=_NAMES_WIDTH - 14, warn=_warnings(video))
        for column, shown in enumerate(cells[row]):
            _draw_scaled(
                page,
                shown.picture(0, full),
                left + column * (width + _GAP),
                y,
                width=width,
                height=height,
            )
    return page.pixels


class _Cells:
    """Images of one modality of one video at some times; flow in pixels, the rest as RGB."""

    def __init__(self, store: Store, video_id: str, name: str, numbers: Sequence[int]) -> None:
        count = store.videos[video_id].images[name]
        if MODALITIES[name].from_sound:
            numbers = _images_of_sound(store, video_id, name, numbers) if count else []
        numbers = [number for number in numbers if number < count]
        self.flow: list[NDArray[np.float32]] = []
        self._rgb: list[NDArray[np.uint8]] = []
        if MODALITIES[name].is_flow:
            self.flow = [store.flow(video_id, name, number, 1)[0] for number in numbers]
        else:
            planes = [store.snippet(video_id, name, number, 1)[0] for number in numbers]
            if not MODALITIES[name].is_colour:  # shown in gray
                planes = [image[:1].repeat(3, axis=0) for image in planes]
            self._rgb = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in planes]

    def picture(self, column: int, full_px: float) -> NDArray[np.uint8] | None:
        """Return the RGB picture of a column; None if the video has no such image."""
        if column < len(self.flow):
            return flow_colours(self.flow[column], full_px)
        return self._rgb[column] if column < len(self._rgb) else None


def _images_of_sound(store: Store, video_id: str, name: str, frames: Sequence[int]) -> list[int]:
    """Return the images of sound in whose middle the times of frames lie most nearly."""
    middle_s = store.videos[video_id].centres_s(name)
    times_s = store.videos[video_id].pts_s[list(frames)]
    return [int(np.argmin(np.abs(middle_s - time_s))) for time_s in times_s]


def _draw_scaled(
    page: Page, picture: NDArray[np.uint8] | None, x: int, y: int, *, width: int, height: int
) -> None:
    if picture is None:
        page.blank(x, y, width, height, "no image")
        return
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    page.draw_picture(
        scale_to(picture, *size), x + (width - size[0]) // 2, y + (height - size[1]) // 2
    )


def _write_head(
    page: Page, title: str, facts: Sequence[str], full_px: float | None, warn: Sequence[str] = ()
) -> None:
    """Draw title, facts and warnings at the left, and the key of the flow colours at the right."""
    right = page.pixels.shape[1] - _MARGIN
    room = right - _MARGIN
    if full_px is not None:
        page.key(right - _KEY, _MARGIN, _KEY)
        key = ("flow: hue is direction,", f"rim is {full_px:g} px a frame,", "darker beyond it")
        for line, text in enumerate(key):
            x = right - _KEY - 12 - text_width(text, 11)
            page.write(text, x, _MARGIN + 25 + 16 * line, 11, colour=SOFT)
        room -= _KEY + 190
    page.write(title, _MARGIN, _MARGIN + 22, 22, bold=True, width=room)
    for line, text in enumerate(facts):
        page.write(text, _MARGIN, _MARGIN + 45 + 19 * line, 12, colour=SOFT, width=room)
    y = _MARGIN + 45 + 19 * len(facts)
    page.write(" · ".join(warn), _MARGIN, y, 12, colour=WARNING, width=room)


def _write_lines(
    page: Page, y: int, title: str, lines: Sequence[str], *, width: int, warn: Sequence[str] = ()
) -> None:
    page.write(title, _MARGIN, y + 14, 13, bold=True, width=width)
    for line, text in enumerate(lines):
        page.write(text, _MARGIN, y + 33 + 16 * line, 11, colour=SOFT, width=width)
    for line, text in enumerate(warn[:2], len(lines)):
        page.write(text, _MARGIN, y + 33 + 16 * line, 11, colour=WARNING, width=width)


def _warnings(video: Video) -> list[str]:
    """Return warnings about a video: partial, or with notes."""
    return ["partial"] * (video.status == "partial") + _notes(video)


def _notes(video: Video) -> list[str]:
    """Return the notes of a video as text."""
    notes = count_notes([(video.video_id, video.notes)])
    return [note.code.replace("_", " ") for note in notes]


def _facts(store: Store, video: Video) -> list[str]:
    """Return one or two lines about a video."""
    duration = video.pts_s[-1] - video.pts_s[0] + (1 / video.fps if video.fps else 0)
    height, width = max(video.size.values())
    first = [count_noun(video.frames, "frame"), f"{duration:.1f} s", f"{width}×{height}"]
    if video.fps:
        first.insert(1, f"{video.fps:.4g} per second")
    if video.status == "partial":
        first.append("partial: the source is damaged after this")
    second = [*_class_lines(store, video), *video.splits]
    lines = " · ".join(first), " · ".join(dict.fromkeys(part for part in second if part))
    return [line for line in lines if line]


def _store_facts(store: Store) -> list[str]:
    frames = int(store.catalogue.columns["frames"].sum())
    first = [
        count_noun(len(store.videos), "video"),
        count_noun(frames, "frame"),
        count_noun(len(store.shards), "shard"),
    ]
    second = [
        str(store.header.dataset.get("dataset", "")),
        f"recipe {store.header.recipe_digest[:12]}",
    ]
    return [" · ".join(first), " · ".join(part for part in second if part)]


def _class_lines(store: Store, video: Video) -> list[str]:
    """Return the names of a video's classes, and its subset."""
    names = store.header.class_names
    classes = [names[label] if label < len(names) else str(label) for label in video.labels]
    return [text for text in (", ".join(classes), video.subset) if text]


def _modality_lines(store: Store, video: Video, name: str) -> list[str]:
    """Return lines on how a modality is stored: codec, quantiser, camera motion."""
    row, count = MODALITIES[name], video.images[name]
    codec, quantiser = store.codec(name), store.quantiser(name)
    lines = [" ".join(str(codec[key]) for key in ("name", "quality") if key in codec)]
    if row.is_flow:
        lines.append(f"bound ±{quantiser['bound']:g} px")
    elif row.from_sound:
        lines.append(f"black {quantiser['floor_db']:g} dB, white 0 dB")
        lines.append(f"{count_noun(count, 'image')}, 10 ms a column")
    elif row.zero_level is not None:
        lines.append("gray is no change")
    if name in video.clipped_share:
        lines.append(f"clipped {100 * video.clipped_share[name]:.2g} %")
    if count and HOMOGRAPHY in row.columns:
        moved = (store.column(video.video_id, name, HOMOGRAPHY.name) != np.eye(3)).any(axis=(1, 2))
        lines.append("camera motion removed")
        lines.append(f"in {int(moved.sum())} of {count_noun(count, 'pair')}")
    return lines


def _has_flow(store: Store) -> bool:
    return any(MODALITIES[name].is_flow for name in store.modalities)


def _choose_times(video: Video, columns: int) -> list[int]:
    """Return evenly spaced frames that all modalities have (0 if one has no images)."""
    framed = [n for name, n in video.images.items() if not MODALITIES[name].from_sound]
    count = max(1, min(framed, default=video.frames))
    columns = min(columns, count)
    return [int((k + 0.5) * count / columns) for k in range(columns)]


def _largest_motion(store: Store, video: Video) -> int:
    """Return the image number with most motion among five, by the last flow modality."""
    numbers = _choose_times(video, 5)
    for name in reversed(store.modalities):
        if MODALITIES[name].is_flow and video.images[name]:
            fields = [store.flow(video.video_id, name, number, 1) for number in numbers]
            return numbers[int(np.argmax([np.abs(field).mean() for field in fields]))]
    return numbers[len(numbers) // 2]


def choose_videos(store: Store, count: int) -> list[Video]:
    """Choose some videos, of as many classes as possible, evenly spaced in each.

    Parameters
    ----------
    store : Store
        Store of the videos.
    count : int
        Number of videos.

    Returns
    -------
    list of Video
        Videos, sorted by id.
    """
    step = max(1, len(store.videos) // _CANDIDATES)
    candidates = [store.videos[key] for key in islice(sorted(store.videos), 0, None, step)]
    by_class: dict[tuple[int, ...], list[Video]] = {}
    for video in candidates:
        by_class.setdefault(video.labels, []).append(video)
    groups = _spread(list(by_class.values()), count)
    # One of each class, then a second of each, until there are enough.
    turns = [(turn, k) for k, group in enumerate(groups) for turn in range(len(group))]
    shares = Counter(k for _, k in sorted(turns)[:count])
    chosen = [video for k, group in enumerate(groups) for video in _spread(group, shares[k])]
    return sorted(chosen, key=lambda video: video.video_id)


def _spread(values: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the values, evenly spaced."""
    count = min(count, len(values))
    return [values[int((k + 0.5) * len(values) / count)] for k in range(count)]


def _cell_size(videos: Iterable[Video], cell_px: int) -> tuple[int, int]:
    """Return width and height of a cell, with the aspect ratio of the first video."""
    sizes = (size for video in videos for size in video.size.values())
    height, width = next((size for size in sizes if min(size) > 0), (1, 1))
    scale = cell_px / max(width, height)
    return max(40, round(width * scale)), max(130, round(height * scale))


def _full_colour(flows: Iterable[Sequence[NDArray[np.float32]]]) -> float:
    """Return a round speed above that of 99 % of the pixels, pixels per frame."""
    fields = [np.hypot(field[0], field[1]).ravel() for row in flows for field in row]
    if not fields:
        return float(_FULL_COLOURS[0])
    fast = float(np.percentile(np.concatenate(fields), 99))
    return float(next((step for step in _FULL_COLOURS if step >= fast), fast))


def _check(count: int, cell_px: int) -> None:
    if count < 1 or cell_px < 40:
        raise ValueError(f"wanted at least 1 picture of 40 pixels, got {count} of {cell_px}")
