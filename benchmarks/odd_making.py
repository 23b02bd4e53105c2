"""ffmpeg -> folders of odd file names and of every codec and container that it can write."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FRAMES, SIZE = 12, "128x96"
SOURCE = ("-f", "lavfi", "-i", f"testsrc2=size={SIZE}:rate=25")

NAMES: tuple[str | bytes, ...] = (
    "plain.mp4", "with space.mp4", " leading space.mp4", "trailing space.mp4 ", "two  spaces.mp4",
    "tab\there.mp4", "new\nline.mp4", "carriage\rreturn.mp4", "vertical\vtab.mp4", "form\ffeed.mp4",
    "bell\a.mp4", "escape\x1b[31mred\x1b[0m.mp4", "title\x1b]0;owned\x07.mp4", "delete\x7f.mp4",
    "c1\u009b31m.mp4", "single'quote.mp4", 'double"quote.mp4', "back`tick.mp4", "-dash.mp4", "-i",
    "--help.mp4", "-rf", "percent%2Fslash.mp4",
    "percent%00.mp4", "%03d.mp4", "%s%n.mp4", "100%.mp4",
    "star*.mp4", "question?.mp4", "[bracket].mp4", "{a,b}.mp4", "$(id).mp4", "$HOME.mp4", "~.mp4",
    "semi;colon.mp4", "pipe|.mp4", "pipe:0", "amp&ersand.mp4", "hash#1.mp4", "#comment.mp4",
    "colon:here.mp4", "http:example.mp4", "file:plain.mp4", "s3:bucket.mp4", "C:\\videos\\a.mp4",
    "concat:plain.mp4|plain.mp4", "subfile,,start,0,end,9,,:plain.mp4", "data:video,mp4", "cache:a",
    "back\\slash.mp4", "\\x41.mp4", "\\\\server\\share.mp4", "comma,1.mp4", "equals=1.mp4",
    "plus+.mp4", "at@sign.mp4", "exclaim!.mp4", "caret^.mp4", "(round).mp4", "<angle>.mp4",
    "动作识别.mp4", "ビデオ.mp4", "한국어.mp4", "видео.mp4", "مقطع فيديو.mp4", "סרטון.mp4",
    "rtl\u202emp4.exe.mp4", "zero\u200bwidth.mp4", "bom\ufeff.mp4", "line\u2028break.mp4",
    "nel\u0085.mp4", "nbsp\u00a0.mp4", unicodedata.normalize("NFC", "é_composed.mp4"),
    unicodedata.normalize("NFD", "é_composed.mp4"), "emoji🎬.mp4", "family👩‍👩‍👧.mp4", "İıß.mp4",
    b"latin1_\xe9.mp4", b"shift_jis_\x93\xae\x89\xe6.mp4", b"\xff\xfe.mp4",
    b"cut_utf8_\xe2\x82.mp4",
    b"surrogate_\xed\xa0\x80.mp4", "x" * 246 + ".mp4", "é" * 123 + ".mp4", "长" * 83 + ".m",
    "no_extension", "dots...mp4", "a.b.c.d.mp4", "ends_with_dot.", "..two_dots.mp4x", "mp4",
    "UPPER.MP4", "Mixed.Mp4", "odd.extension", "numbers.001", "wrong.avi", "wrong.webm", "wrong.ts",
    "wrong.h264", "same.mp4", "same.mov", "same.mkv", "same", "one/same.mp4", "two/same.mp4",
    "two/SAME.mp4", "folder.mp4/inside.mp4", "a b/c d/e f.mp4", "new\nfolder/a.mp4", "-d/-f.mp4",
    "'/'.mp4", "deep/" * 20 + "a.mp4", "null.mp4", "NaN.mp4", "nan", "True.mp4", "0", "1.0",
    "1e5.mp4", "con.mp4", "aux", "__pycache__.mp4", "shard-0.h5.mp4", "../up.mp4",
)  # fmt: skip
"""Names of copies of one clip, with their folders. Names that are not UTF-8 are bytes."""
LEFT_OUT = (".hidden.mp4", ".hidden/a.mp4", "photo.jpg", "notes.txt", "code.ts", "empty_file")
"""Names of files that a folder of videos does not give, beside the pipe, socket and dead link."""

HARDWARE = ("nvenc", "qsv", "vaapi", "v4l2m2m", "_omx", "_mf", "_amf", "videotoolbox", "vulkan")
NO_VIDEO = ("a64multi", "a64multi5", "wrapped_avframe", "xface", "vbn", "alias_pix", "libxavs2")
EVERY = ("mkv", "nut", "avi", "mov")
"""Containers that are tried with every encoder."""
CONTAINERS = {
    "mp4": "libx264 libx265 libaom-av1 libvpx-vp9 mpeg4 mpeg2video mpeg1video mjpeg libsvtav1 png",
    "m4v": "libx264 mpeg4",
    "3gp": "h263 mpeg4 libx264",
    "3g2": "mpeg4",
    "f4v": "libx264",
    "ismv": "libx264",
    "webm": "libvpx libvpx-vp9 libaom-av1",
    "ivf": "libvpx libvpx-vp9 libaom-av1",
    "obu": "libaom-av1",
    "ts": "libx264 libx265 mpeg1video mpeg2video mpeg4 vc2",
    "m2ts": "libx264 mpeg2video",
    "mts": "libx264",
    "mpg": "mpeg1video mpeg2video",
    "mpeg": "mpeg1video",
    "vob": "mpeg2video",
    "m1v": "mpeg1video",
    "m2v": "mpeg2video",
    "h264": "libx264",
    "264": "libx264",
    "hevc": "libx265",
    "265": "libx265",
    "h261": "h261",
    "h263": "h263",
    "mjpeg": "mjpeg",
    "mjpg": "mjpeg",
    "y4m": "wrapped_avframe",
    "flv": "flv libx264 flashsv flashsv2",
    "wmv": "wmv1 wmv2 msmpeg4 msmpeg4v2",
    "asf": "wmv2 mpeg4 mjpeg libx264",
    "ogv": "libtheora",
    "ogg": "libtheora",
    "ogm": "libtheora",
    "mxf": "mpeg2video libx264 ffv1 dnxhd",
    "gxf": "mpeg2video mjpeg",
    "dv": "dvvideo",
    "rm": "rv10 rv20",
    "roq": "roqvideo",
    "swf": "flv mjpeg",
    "wtv": "mpeg2video",
    "gif": "gif",
    "apng": "apng",
    "png": "apng",
    "webp": "libwebp_anim",
    "avif": "libaom-av1",
    "drc": "vc2",
    "amv": "amv",
    "vc1": "wmv2",
    "wtvx": "mpeg2video",
}
"""Container's extension -> encoders tried in it."""
OPTIONS = {
    "dvvideo": "-vf scale=720:576 -pix_fmt yuv420p",
    "dnxhd": "-vf scale=256:128 -profile:v dnxhr_hq -pix_fmt yuv422p",
    "h261": "-vf scale=176:144",
    "roqvideo": "-vf scale=128:128 -r 30",
    "vc2": "-pix_fmt yuv420p",
    "libaom-av1": "-cpu-used 8 -usage realtime",
    "libvpx": "-deadline realtime",
    "libvpx-vp9": "-deadline realtime -cpu-used 8",
    "librav1e": "-speed 10",
    "libsvtav1": "-preset 12",
    "libx265": "-x265-params log-level=none",
    "amv": "-r 16 -strict -1 -pix_fmt yuvj420p",
    "ljpeg": "-pix_fmt bgr24",
    "speedhq": "-pix_fmt yuv422p",
    "libx264": "-preset ultrafast",
}
X265 = "-c:v libx265 -x265-params log-level=none"
PCM = "-c:v rawvideo -pix_fmt"
X264, H264 = "-c:v libx264 -preset veryfast", "-c:v libx264 -preset veryfast -bf 3 -g 6"
SPECIAL = {
    # name -> how it is made
    "10bit_h264.mp4": f"{X264} -pix_fmt yuv420p10le",
    "422_h264.mp4": f"{X264} -pix_fmt yuv422p",
    "444_h264.mkv": f"{X264} -pix_fmt yuv444p",
    "gray_h264.mp4": f"{X264} -pix_fmt gray",
    "full_range_h264.mp4": f"{X264} -pix_fmt yuvj420p",
    "rgb_h264.mp4": "-c:v libx264rgb",
    "10bit_hevc.mkv": f"{X265} -pix_fmt yuv420p10le",
    "12bit_444_hevc.mp4": f"{X265} -pix_fmt yuv444p12le",
    "10bit_vp9.webm": "-c:v libvpx-vp9 -deadline realtime -pix_fmt yuv420p10le",
    "alpha_vp8.webm": "-c:v libvpx -deadline realtime -pix_fmt yuva420p -auto-alt-ref 0",
    "altref_vp9.webm": "-c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 10",
    "superframes_vp9.ivf": "-c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 10",
    "altref_vp8.webm": "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 10 -b:v 100k",
    "hidden_av1.mp4": "-c:v libaom-av1 -cpu-used 6 -lag-in-frames 19",
    "hidden_av1.obu": "-c:v libaom-av1 -cpu-used 6 -lag-in-frames 19",
    "16bit_png.mov": "-c:v png -pix_fmt rgb48be",
    "gray16_ffv1.mkv": "-c:v ffv1 -pix_fmt gray16le",
    "pal8.avi": f"{PCM} pal8",
    "bgr555.avi": f"{PCM} rgb555le",
    "yuv410p.avi": f"{PCM} yuv410p",
    "uyvy.avi": f"{PCM} uyvy422",
    "prores4444_alpha.mov": "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le",
    "interlaced_tff.mp4": f"{X264} -vf tinterlace=interleave_top -x264opts tff=1",
    "interlaced_mpeg2.mpg": "-c:v mpeg2video -flags +ildct+ilme -vf tinterlace=interleave_top",
    "paff_like.ts": f"{X264} -vf tinterlace=interleave_top -x264opts bff=1 -flags +ildct+ilme",
    "telecine_rff.mpg": "-vf telecine,fieldmatch,decimate -c:v mpeg2video -r 24000/1001",
    "odd_33x17.mp4": f"{X264} -vf scale=33:17 -pix_fmt yuv444p",
    "odd_7x5.mkv": "-vf scale=7:5 -c:v ffv1",
    "tiny_1x1.avi": "-vf scale=1:1 -c:v rawvideo -pix_fmt rgb24",
    "wide_512x2.mkv": "-vf scale=512:2 -c:v ffv1",
    "not_square.mp4": f"{X264} -vf setsar=4/3",
    "b_frames.mp4": H264,
    "b_frames.avi": H264,
    "b_frames.mkv": H264,
    "b_frames.ts": H264,
    "b_frames.flv": H264,
    "b_frames.h264": H264,
    "b_frames.mov": H264,
    "b_frames.nut": H264,
    "b_frames_mpeg4.avi": "-c:v mpeg4 -bf 2",
    "packed_mpeg4.avi": "-c:v libxvid -bf 2",
    "b_frames_mpeg4.mp4": "-c:v mpeg4 -bf 2",
    "b_frames.mxf": "-c:v mpeg2video -bf 2",
    "b_frames.mpg": "-c:v mpeg2video -bf 2",
    "b_frames.asf": H264,
    "b_frames.wmv": "-c:v mpeg4 -bf 2",
    "pyramid.mp4": f"{H264} -x264opts b-pyramid=normal",
    "open_gop.mp4": f"{H264} -x264opts open-gop=1",
    "open_gop.ts": f"{H264} -x264opts open-gop=1",
    "open_gop_hevc.mp4": f"{X265}:open-gop=1:keyint=6",
    "open_gop_mpeg2.mpg": "-c:v mpeg2video -bf 2 -g 4",
    "intra_refresh.ts": f"{X264} -x264opts intra-refresh=1",
    "slices.mp4": f"{X264} -x264opts slices=4",
    "gop1.mkv": f"{X264} -g 1",
    "one_frame.mp4": f"{X264} -frames:v 1",
    "two_frames.mp4": f"{X264} -frames:v 2",
    "two_frames.mpg": "-c:v mpeg2video -frames:v 2",
    "one_frame.mkv": f"{X264} -frames:v 1",
    "one_frame.ts": f"{X264} -frames:v 1",
    "fps1.mp4": f"{X264} -r 1",
    "fps1000.mp4": f"{X264} -vf setpts=N/1000/TB -r 1000",
    "fps_ntsc.mp4": f"{X264} -r 30000/1001",
    "vfr.mp4": f"{X264} -vf setpts=N*N/100/TB -vsync vfr",
    "vfr.mkv": f"{X264} -vf setpts=N*N/100/TB -vsync vfr",
    "vfr.ts": f"{X264} -vf setpts=N*N/100/TB -vsync vfr",
    "vfr.webm": "-c:v libvpx -vf setpts=N*N/90/TB -vsync vfr",
    "vfr_gap.mp4": f"{X264} -vf setpts=(N+90000*gt(N\\,5))/25/TB -vsync vfr",
    "vfr_gap.mkv": f"{X264} -vf setpts=(N+90000*gt(N\\,5))/25/TB -vsync vfr",
    "negative_cts.mp4": f"{H264} -movflags negative_cts_offsets",
    "no_edit_list.mp4": f"{H264} -use_editlist 0",
    "fragmented.mp4": f"{H264} -movflags frag_keyframe+empty_moov+default_base_moof",
    "frag_every_frame.mp4": f"{H264} -movflags frag_every_frame+empty_moov",
    "cmaf.mp4": f"{H264} -movflags cmaf",
    "dash_sidx.mp4": f"{H264} -movflags dash+global_sidx",
    "faststart.mp4": f"{H264} -movflags faststart",
    "delay_moov.mp4": f"{H264} -movflags frag_keyframe+delay_moov",
    "rtphint.mp4": f"{H264} -movflags rtphint",
    "start_100s.mp4": f"{H264} -output_ts_offset 100",
    "start_100s.mkv": f"{H264} -output_ts_offset 100",
    "start_100s.ts": f"{H264} -output_ts_offset 100",
    "wraps.ts": f"{H264} -output_ts_offset 95443.5",
    "negative_start.mkv": f"{H264} -output_ts_offset -0.2 -avoid_negative_ts disabled",
    "negative_start.mp4": f"{H264} -output_ts_offset -0.2 -avoid_negative_ts disabled",
    "negative_start.nut": f"{H264} -output_ts_offset -0.2 -avoid_negative_ts disabled",
    "live.mkv": f"{H264} -f matroska -live 1",
    "cluster_small.mkv": f"{H264} -cluster_size_limit 2000",
    "cues_front.mkv": f"{H264} -cues_to_front 1",
    "no_index.avi": "-c:v mpeg4 -write_channel_mask 0 -flush_packets 1",
    "opendml.avi": f"{PCM} bgr24 -reserve_index_space 4000",
    "flipped_raw.avi": f"{PCM} bgr24 -flipped_raw_rgb 1",
    "data_partition.mp4": "-c:v mpeg4 -data_partitioning 1 -ps 300",
    "qpel.avi": "-c:v mpeg4 -flags +qpel -bf 1",
    "gmc_like.avi": "-c:v libxvid -gmc 1",
    "aic.mp4": "-c:v mpeg4 -flags +aic",
    "divx_tag.avi": "-c:v mpeg4 -vtag DX50 -bf 2",
    "xvid_tag.avi": "-c:v libxvid -vtag XVID",
    "avc3.mp4": f"{H264} -tag:v avc3",
    "hev1.mp4": f"{X265} -tag:v hev1",
    "hvc1.mp4": f"{X265}:bframes=3 -tag:v hvc1",
    "paused_gif.gif": "-c:v gif -final_delay 300 -loop -1",
    "loop_gif.gif": "-c:v gif -loop 5",
    "hdr_pq.mp4": f"{X265} -pix_fmt yuv420p10le -color_trc smpte2084 -colorspace bt2020nc",
    "with_sound.mp4": f"SOUND {H264} -c:a aac",
    "with_sound.mkv": f"SOUND {H264} -c:a libopus",
    "with_sound.avi": "SOUND -c:v mpeg4 -c:a mp2",
    "with_sound.mpg": "SOUND -c:v mpeg1video -c:a mp2",
    "with_sound.ts": f"SOUND {H264} -c:a mp2",
    "with_sound.flv": f"SOUND {H264} -c:a aac",
    "with_sound.wmv": "SOUND -c:v wmv2 -c:a wmav2",
    "with_sound.ogv": "SOUND -c:v libtheora -c:a libvorbis",
    "with_sound.webm": "SOUND -c:v libvpx -deadline realtime -c:a libopus",
    "sound_first.mp4": f"SOUND -map 1 -map 0 {H264} -c:a aac",
    "sound_later.ts": f"SOUND {H264} -c:a mp2 -af adelay=2000",
}


def make_names(folder: Path) -> int:
    """Copy one clip under every odd name; add files that must be skipped."""
    clip = folder.parent / "clip.mp4"
    _ffmpeg(clip, X264.split())
    for name in NAMES:
        raw = os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else name.encode())
        if b".." in raw.split(b"/"):
            continue
        path = Path(os.fsdecode(raw))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, path)
    for name in LEFT_OUT:
        (folder / name).parent.mkdir(exist_ok=True)
        if name.endswith(("mp4", "jpg")):
            shutil.copyfile(clip, folder / name)
        else:
            (folder / name).write_text("" if name.startswith("empty") else "let a = 1;\n" * 99)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "link.mp4").symlink_to("plain.mp4")
    (folder / "absolute_link.mp4").symlink_to(clip)
    (folder / "dead_link.mp4").symlink_to("nowhere.mp4")
    (folder / "loop_link").symlink_to(".")
    os.link(folder / "plain.mp4", folder / "hard_link.mp4")
    return sum(len(names) for _, _, names in os.walk(folder))


def make_codecs(folder: Path, threads: int = 2) -> tuple[int, int]:
    """Write every codec in every container that ffmpeg supports for it, and special files.

    Returns
    -------
    made, refused : int
        Files written, and combinations that ffmpeg refuses to write.
    """
    encoders = [n for n in _encoders() if n not in NO_VIDEO and not any(h in n for h in HARDWARE)]
    pairs = {(codec, container) for codec in encoders for container in EVERY}
    pairs |= {(codec, c) for c, codecs in CONTAINERS.items() for codec in codecs.split()}
    wanted = {
        f"{codec}.{container}": ["-c:v", codec, *OPTIONS.get(codec, "").split()]
        for codec, container in sorted(pairs)
    }
    wanted |= {f"special_{name}": options.split() for name, options in SPECIAL.items()}
    with ThreadPoolExecutor(threads) as pool:
        made = sum(pool.map(lambda name: _ffmpeg(folder / name, wanted[name]), wanted))
    made += _copy_packets(folder)
    return made, len(wanted) - made


def _copy_packets(folder: Path) -> int:
    """Write files that copy the packets of others."""
    made = 0
    clip = folder / "special_b_frames.mp4"
    long = folder.parent / "long.mp4"
    _ffmpeg(long, [*H264.split(), "-g", "20", "-x264opts", "open-gop=1"], frames=60)
    for name, before, after in (
        ("rotated_90.mp4", (), ("-metadata:s:v", "rotate=90")),
        ("rotated_270.mov", (), ("-metadata:s:v", "rotate=270")),
        ("edit_list_cut.mp4", ("-ss", "0.2"), ()), ("edit_list_cut.mov", ("-ss", "0.31"), ()),
        ("copied.mkv", (), ()), ("copied.ts", (), ()), ("copied.avi", (), ()),
        ("copied.flv", (), ()),
        ("annexb.h264", (), ("-bsf:v", "h264_mp4toannexb")),
        ("aud.h264", (), ("-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert")),
        ("aud.ts", (), ("-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert")),
        ("without_sei.mp4", (), ("-bsf:v", "filter_units=remove_types=6")),
    ):  # fmt: skip
        made += _run([*before, "-i", str(clip), "-c", "copy", *after, str(folder / f"copy_{name}")])
    for kind in ("mp4", "mkv", "ts", "mov", "flv"):
        headers = ("-bsf:v", "h264_mp4toannexb,dump_extra") if kind == "ts" else ()
        copy = ("-i", str(long), "-c", "copy", *headers)
        made += _run(["-ss", "1.3", *copy, str(folder / f"copy_open_cut.{kind}")])
        made += _run([*copy, "-ss", "0.9", "-copyinkf", str(folder / f"copy_mid_gop.{kind}")])
    parts = [folder / "libx264.ts", folder / "special_b_frames.ts"]
    if all(part.exists() for part in parts):
        (folder / "copy_joined.ts").write_bytes(b"".join(p.read_bytes() for p in parts))
        made += 1
    return made


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted, without pipes and dead links."""
    found = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file())


def make_lists(folder: Path, names: Path) -> tuple[Path, Path]:
    """Write the odd names as a CSV, which quotes all of them, and as a path per line."""
    found = [
        str(path.relative_to(names))
        for path in files_below(names)
        if not path.name.startswith(("empty", "notes", "code"))
    ]
    table, lines = folder / "names.csv", folder / "names.txt"
    with table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in found)])
    simple = [name for name in found if name == name.strip() and not set(name) & set("\n\r\v\f")]
    with lines.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{name}\n" for name in simple)
    return table, lines


def _encoders() -> list[str]:
    answer = subprocess.run(
        ["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in answer.stdout.splitlines()]
    return [row[1] for row in rows if len(row) > 2 and row[0][:1] == "V" and row[1] != "="]


def _ffmpeg(path: Path, options: Sequence[str], frames: int = FRAMES) -> bool:
    sound = ("-f", "lavfi", "-i", "sine=duration=0.5") if "SOUND" in options else ()
    chosen = [option for option in options if option != "SOUND"]
    count = () if "-frames:v" in options else ("-frames:v", str(frames))
    whole = [*SOURCE, *sound, *count, *chosen, str(path)]
    return _run(whole) or (path.suffix != ".avi" and _run(["-strict", "-2", *whole]))


def _run(arguments: Sequence[str]) -> bool:
    """Run ffmpeg; remove a file that it could not complete."""
    path = Path(arguments[-1])
    try:
        done = subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", *arguments],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        good = done.returncode == 0 and path.stat().st_size > 0
    except (subprocess.TimeoutExpired, OSError):
        good = False
    if not good:
        path.unlink(missing_ok=True)
    return good
