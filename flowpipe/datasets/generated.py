"""A folder -> a data set that flowpipe generates there: one for the demo sets.

Files on disk::

    root/<name>.json                seed, version, size of every clip; written last
    root/list.csv                   video_id,path,label,split: also an example of a list file
    root/videos/<class>/<id>.mp4
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpipe import strict
from flowpipe.datasets.dataset import Dataset
from flowpipe.errors import DatasetError, FormatError
from flowpipe.scratch import scratch_folder
from flowpipe.types import VideoRecord


@dataclass(frozen=True, kw_only=True)
class GeneratedSet:
    """Data set of generated clips.

    A clip's id is its class, ``_`` and its number in the class in two digits.
    """

    name: str
    """Name of the data set."""
    title: str
    """Description in messages, such as ``the demo set``."""
    version: int
    """Increases with every change that alters a clip."""
    class_names: tuple[str, ...]
    clips_per_class: int
    test_clips: tuple[int, ...]
    """Numbers of the clips of each class that are for tests."""
    write_clip: Callable[[Path, str, int], None]
    """Write the clip with an id and a seed to a path."""

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Ids of all clips."""
        numbers = range(self.clips_per_class)
        return tuple(f"{name}_{clip:02d}" for name in self.class_names for clip in numbers)

    def load(
        self, root: Path, seed: int, progress: Callable[[int, int], None] | None, note: str
    ) -> Dataset:
        """Find the set in `root`, or generate it there.

        Parameters
        ----------
        root : Path
            Folder of the set. It is generated beside this path and then renamed, so it is complete.
        seed : int
            Seed of the clips.
        progress : callable or None
            Called with (clips done, total clips) while the set is generated.
        note : str
            Note of the data set.

        Returns
        -------
        Dataset
            The data set.

        Raises
        ------
        DatasetError
            If `root` contains other files, or the set of another seed.
        """
        root = Path(root).absolute()
        if not self._is_complete(root, seed):
            self._make(root, seed, progress)
        records = tuple(
            VideoRecord(
                video_id,
                str(self._clip_path(root, video_id)),
                labels=(self.class_names.index(self.class_of(video_id)),),
                subset="testing" if self._is_test(video_id) else "training",
                splits=(self._split_of(video_id),),
            )
            for video_id in self.video_ids
        )
        return Dataset(self.name, self.class_names, records, note=note)

    def class_of(self, video_id: str) -> str:
        """Return the class of a clip.

        Parameters
        ----------
        video_id : str
            Id of the clip.

        Returns
        -------
        str
            Name of the class.

        Raises
        ------
        DatasetError
            If the set has no such clip.
        """
        if video_id not in self.video_ids:
            raise DatasetError(
                f"{self.title} has no clip {video_id!r}; it has {self.video_ids[0]} and so on"
            )
        return video_id.split("_")[0]

    def clip_of(self, video_id: str) -> int:
        """Return the number of a clip in its class.

        Parameters
        ----------
        video_id : str
            Id of the clip.

        Returns
        -------
        int
            Number, from 0.
        """
        self.class_of(video_id)
        return int(video_id.split("_")[1])

    def _make(self, root: Path, seed: int, progress: Callable[[int, int], None] | None) -> None:
        self._refuse_foreign(root, seed)
        root.parent.mkdir(parents=True, exist_ok=True)
        whole = self._whole_clips(root, seed)
        with scratch_folder(f".{root.name}.making", root.parent) as made:
            made.chmod(0o755)  # scratch folders are private, but data sets are shared
            sizes = {}
            for count, video_id in enumerate(self.video_ids, 1):
                path = self._clip_path(made, video_id)
                path.parent.mkdir(parents=True, exist_ok=True)
                if video_id in whole:
                    shutil.copy2(self._clip_path(root, video_id), path)
                else:
                    self.write_clip(path, video_id, seed)
                sizes[video_id] = path.stat().st_size
                if progress is not None:
                    progress(count, len(self.video_ids))
            self._write_list(made)
            marker = {"version": self.version, "seed": seed, "clips": sizes}
            text = json.dumps(marker, indent=1) + "\n"
            self._marker_path(made).write_text(text, encoding="utf-8")
            self._install(made, root, seed)

    def _install(self, made: Path, root: Path, seed: int) -> None:
        if self._is_complete(root, seed):  # another process was faster
            return
        old = made.with_name(f"{made.name}.old")
        if root.exists():  # a damaged set or an empty folder, see `_refuse_foreign`
            root.replace(old)
        try:
            made.replace(root)
        except OSError:
            if not self._is_complete(root, seed):
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)

    def _refuse_foreign(self, root: Path, seed: int) -> None:
        if not root.exists():
            return
        if not root.is_dir():
            raise DatasetError(
                f"{self.title} needs a folder, but {root} is a file; give another --root"
            )
        marker = self._read_marker(root)
        if marker is None and any(root.iterdir()):
            raise DatasetError(
                f"{root} contains files that are not {self.title}; give --root a new or an empty "
                "folder"
            )
        if marker is not None and (marker.get("version"), marker.get("seed")) != (
            self.version, seed,
        ):  # fmt: skip
            raise DatasetError(
                f"{root} holds {self.title} of seed {marker.get('seed')}, version "
                f"{marker.get('version')}, wanted seed {seed}, version {self.version}; "
                "remove that folder or give another --root"
            )

    def _is_complete(self, root: Path, seed: int) -> bool:
        return len(self._whole_clips(root, seed)) == len(self.video_ids)

    def _whole_clips(self, root: Path, seed: int) -> set[str]:
        """Return the ids of the clips whose file has the size in the marker."""
        marker = self._read_marker(root)
        if marker is None or (marker.get("version"), marker.get("seed")) != (self.version, seed):
            return set()
        sizes = marker.get("clips", {})
        paths = {video_id: self._clip_path(root, video_id) for video_id in self.video_ids}
        return {i for i, p in paths.items() if p.is_file() and p.stat().st_size == sizes.get(i)}

    def _read_marker(self, root: Path) -> dict[str, Any] | None:
        try:
            marker: dict[str, Any] = strict.read_json(self._marker_path(root))
        except (FileNotFoundError, NotADirectoryError, FormatError):
            return None
        return marker

    def _write_list(self, root: Path) -> None:
        with (root / "list.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(("video_id", "path", "label", "split"))
            for video_id in self.video_ids:
                path = self._clip_path(root, video_id).relative_to(root).as_posix()
                lines.writerow((video_id, path, self.class_of(video_id), self._split_of(video_id)))

    def _marker_path(self, root: Path) -> Path:
        return root / f"{self.name}.json"

    def _clip_path(self, root: Path, video_id: str) -> Path:
        return root / "videos" / self.class_of(video_id) / f"{video_id}.mp4"

    def _is_test(self, video_id: str) -> bool:
        return self.clip_of(video_id) in self.test_clips

    def _split_of(self, video_id: str) -> str:
        return "test1" if self._is_test(video_id) else "train1"
