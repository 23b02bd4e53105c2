"""Notes that extraction makes on a video: what each code means, and how often a store has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """Meaning of a note code."""

    meaning: str
    reported: bool = True
    """True if runs and `flowpipe info` mention it."""
    adds_up: bool = True
    """True if the number of a split video is the sum of the numbers of its parts."""


NOTES = {
    # damage
    "lost_frames": Note("frames are missing where the file is damaged"),
    "damaged_frames": Note("frames may have wrong pixels where the file is damaged"),
    "concealed_frames": Note("the decoder made up parts of frames where the file is damaged"),
    "corrupt_packets": Note("the container marks packets as corrupt"),
    "shorter_than_declared": Note("the video is shorter than its header says"),
    "fewer_frames_than_declared": Note("the file has fewer frames than its header says"),
    "undecodable_start": Note("frames before the first whole picture cannot be decoded"),
    # times
    "pts_missing": Note("frames have no timestamp; their times are interpolated"),
    "pts_jump": Note("timestamps jump; the times behind the jump are shifted"),
    "pts_repeated": Note("timestamps repeat; the times of these frames are made up"),
    "pts_reordered": Note("frames are sorted by their timestamps", reported=False),
    # pictures
    "resolution_change": Note("the frame size changes"),
    "colour_or_rotation_change": Note("the colour space or rotation changes"),
    "colour_untagged": Note("no colour matrix is declared; BT.601 is assumed", reported=False),
    "hdr_not_tone_mapped": Note("the video is HDR and its values are stored without tone mapping"),
    "mirrored": Note("the display matrix mirrors the video"),
    "rotation_rounded": Note("the display matrix rotates by an angle between quarter turns"),
    "display_matrix_unusable": Note("the display matrix is unusable and ignored"),
    "container_crop": Note("the container crops the frames; they are stored whole"),
    "pixels_not_square": Note("pixels are not square; frames keep the stored size", reported=False),
    "interlaced": Note("frames are interlaced and stored without deinterlacing"),
    "video_streams": Note("the file has several video streams"),
    "joined_streams": Note("the video goes on in other streams of the file; all are stored"),
    "video_stream": Note(
        "index of the video stream that was decoded", reported=False, adds_up=False
    ),
    # sound
    "no_audio": Note("the file has no sound that can be decoded; no image of sound is stored"),
    "audio_undecodable": Note("FFmpeg has no decoder for the sound; no image of sound is stored"),
    "audio_damaged": Note("packets of sound are damaged; they are silent"),
    "audio_gaps": Note("timestamps of the sound leave gaps, which are silent, or overlap"),
    "audio_jumps": Note("timestamps of the sound jump; the sound behind the jump is shifted"),
    "audio_late": Note("the sound begins after the first frame; it is silent before"),
    "audio_short": Note("the sound ends before the last frame; it is silent behind"),
    "audio_tracks": Note("the file has several streams of sound", reported=False),
    "audio_track": Note(
        "index of the stream of sound that was decoded", reported=False, adds_up=False
    ),
    # motion
    "camera_uncertain": Note(
        "in some pairs of warped flow a foreground's motion may have been taken for the camera's"
    ),
}
"""Note code -> meaning. Codes are stored as ``code`` or ``code:count``."""


@dataclass(frozen=True)
class NoteCount:
    """Number of videos with a note."""

    code: str
    videos: int
    example: str
    """Id of the first video."""

    def __str__(self) -> str:
        return f"{self.videos} x {self.code}: {NOTES[self.code].meaning}; as in {self.example}"


def join_notes(notes: Iterable[str]) -> list[str]:
    """Join the notes of the parts of a video.

    Parameters
    ----------
    notes : iterable of str
        Notes of all parts.

    Returns
    -------
    list of str
        Each code once.
    """
    joined: dict[str, int | None] = {}
    for note in notes:
        code, colon, number = note.partition(":")
        if colon and (code not in NOTES or NOTES[code].adds_up):
            joined[code] = (joined.get(code) or 0) + int(number)
        else:
            joined.setdefault(note)
    return [code if number is None else f"{code}:{number}" for code, number in joined.items()]


def count_notes(videos: Iterable[tuple[str, Iterable[str]]]) -> list[NoteCount]:
    """Count the reported notes.

    Parameters
    ----------
    videos : iterable of (str, iterable of str)
        Video id and its notes; parts of one video may follow each other in any order.

    Returns
    -------
    list of NoteCount
        In the order of `NOTES`.
    """
    ids: dict[str, dict[str, None]] = {code: {} for code, note in NOTES.items() if note.reported}
    for video_id, notes in videos:
        for note in notes:
            code = note.partition(":")[0]
            if code in ids:
                ids[code][video_id] = None
    return [NoteCount(code, len(found), next(iter(found))) for code, found in ids.items() if found]
