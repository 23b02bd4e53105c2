"""Stages of an extraction run in parallel: equal bytes, bounded memory, no needless wait."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from command import draw_noise_clip
from videofile import encode_video

from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import WINDOWS_BEGUN, Extraction
from flowpipe.ops import get_ops
from flowpipe.params import build
from flowpipe.types import Span, VideoRecord

FRAMES = 4
"""Frames of a window."""
WINDOWS = 6
STAGES = {"resize": "decode", "gray": "compute", "take": "camera", "to_host": "encode"}
"""An operation of each stage, called once for each window; but `to_host`, see `HookedOps`."""


class HookedOps:
    """A device that is not the CPU: its operations are the CPU's, called by a hook.

    Parameters
    ----------
    hook : callable, optional
        Called with the name of an operation, the number of its call from 0, and its arguments,
        before the operation is. Of `to_host` only calls for images that are to be encoded are.
    """

    def __init__(self, hook=None, *, on_cpu=False, window_frames=FRAMES):
        self.window_frames, self.window_bytes, self.on_cpu = window_frames, 1 << 20, on_cpu
        self._hook, self._ops, self._calls = hook, get_ops(), Counter()

    def __getattr__(self, name):
        value = getattr(self._ops, name)
        if self._hook is None or not callable(value):
            return value

        def called(*arguments, **named):
            if name == "to_host" and arguments[0].ndim < 4:
                return value(*arguments)
            number = self._calls[name]
            self._calls[name] += 1
            self._hook(name, number, arguments)
            return value(*arguments, **named)

        return called


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return encode_video(path, draw_noise_clip(1, frames=WINDOWS * FRAMES))


def extraction(clip, device, modalities=("warped_flow",), **values):
    values = {"flow": "dis", "size": {"width": 64, "height": 48}, **values}
    recipe = build(ExtractRecipe, {"modalities": list(modalities), **values}, where="extract")
    return Extraction(Span(VideoRecord("clip", str(clip))), recipe, device)


def collect_bytes(windows):
    """Every byte and column of an extraction, whatever its windows."""
    found = {}
    for window in windows:
        for planes in window.encoded:
            stream = found.setdefault(planes.modality, ([], {}))
            stream[0].extend(map(bytes, planes.payloads))
            for name, values in planes.columns.items():
                stream[1].setdefault(name, []).extend(values.tolist())
        found.setdefault("pts_s", []).extend(window.pts_s.tolist())
    return found


class Gates:
    """Calls that wait until other calls have begun, and say so if these never do."""

    def __init__(self, waits_for):
        self._waits_for, self._began = waits_for, {}
        self._lock = threading.Lock()

    def _event(self, name, number):
        with self._lock:
            return self._began.setdefault((name, number), threading.Event())

    def __call__(self, name, number, arguments):
        self._event(name, number).set()
        if wanted := self._waits_for(name, number):
            assert self._event(*wanted).wait(20), f"{name} {number} waits for {wanted} in vain"


def later(name, other, by, until=WINDOWS):
    """Call k of `name` waits for call k + by of `other`, where there is one."""
    return lambda called, k: (other, k + by) if called == name and 0 <= k + by < until else None


@pytest.mark.parametrize(
    "waits_for",
    [
        pytest.param(later("take", "gray", 1), id="camera of k, while the device has k + 1"),
        pytest.param(later("resize", "warp_homography", -1), id="no finish waits for more frames"),
        pytest.param(later("resize", "to_host", -2), id="no encoding waits for more frames"),
        pytest.param(later("to_host", "gray", 2), id="the device works while an image is encoded"),
        pytest.param(later("to_host", "resize", 3), id="frames are decoded while one is encoded"),
        pytest.param(later("gray", "resize", 2), id="frames are decoded while the device works"),
    ],
)
def test_no_stage_waits_for_what_it_could_do_without(waits_for, clip):
    """A call that another stage is waited for in ends the test, if that stage waits for it too."""
    windows = list(extraction(clip, HookedOps(Gates(waits_for))))
    assert len(windows) == WINDOWS


def test_features_are_found_while_the_device_computes_the_flow_of_the_same_window(
    clip, monkeypatch
):
    found = threading.Event()
    extraction_ = extraction(clip, HookedOps(window_frames=100))
    from flowpipe.extraction import planes

    features, solver = planes.CameraMotionEstimator.features, planes.make_solver

    def noted(*arguments):
        try:
            return features(*arguments)
        finally:
            found.set()

    def slow(*arguments):
        made = solver(*arguments)
        solve = made.solve

        def solved(*pairs):
            assert found.wait(20), "features wait for the flow"
            return solve(*pairs)

        made.solve = solved
        return made

    monkeypatch.setattr(planes.CameraMotionEstimator, "features", noted)
    monkeypatch.setattr(planes, "make_solver", slow)
    assert len(list(extraction_)) == 1


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_core_has_no_second_thread_for_the_camera(on_cpu, clip):
    """Nor does it hold a second window: on the CPU there is nothing to wait for."""
    threads, live, most = {}, 0, 0

    def hook(name, number, arguments):
        nonlocal live, most
        threads.setdefault(name, set()).add(threading.current_thread())
        live += (name == "gray") - (name == "warp_homography")
        most = max(most, live)

    list(extraction(clip, HookedOps(hook, on_cpu=on_cpu)))
    assert len(threads["gray"]) == len(threads["take"]) == 1
    assert (threads["gray"] == threads["take"]) == on_cpu
    assert most == 1 if on_cpu else 1 <= most <= WINDOWS_BEGUN


@pytest.mark.parametrize("mode", ["fixed", "dense_flow"])
@pytest.mark.parametrize("window_frames", [1, 3, 1000])
def test_bytes_are_those_of_the_cpu(window_frames, mode, clip):
    modalities, warp = ["rgb", "flow", "warped_flow", "rgb_diff"], {"mode": mode}
    ours, meant = (
        collect_bytes(extraction(clip, ops, modalities, warp=warp))
        for ops in (HookedOps(window_frames=window_frames), get_ops())
    )
    assert ours == meant
    assert len(meant["warped_flow"][0]) == WINDOWS * FRAMES - 1


def scarce(most, *operations):
    """A hook: the device has memory for so many images in these operations."""

    def hook(name, number, arguments):
        if name in operations and len(arguments[0]) > most:
            raise DeviceMemoryError("too little")

    return hook


@pytest.mark.parametrize("operation", ["resize", "gray", "take", "warp_homography", "quantise"])
def test_too_little_memory_in_any_step_changes_no_byte(operation, clip):
    modalities = ["rgb", "flow", "warped_flow", "rgb_diff"]
    device = HookedOps(scarce(3, operation), window_frames=9)
    with pytest.warns(RuntimeWarning, match="too little device memory for 9 frames at once"):
        found = collect_bytes(extraction(clip, device, modalities))
    assert found == collect_bytes(extraction(clip, get_ops(), modalities))


def test_a_begun_window_is_finished_where_memory_lacks_for_another(clip, recwarn):
    """Two windows do not fit, but each of them does: none is halved for it."""
    live = 0

    def hook(name, number, arguments):
        nonlocal live
        if name == "gray" and live:
            raise DeviceMemoryError("too little")
        live += (name == "gray") - (name == "warp_homography")

    found = collect_bytes(extraction(clip, HookedOps(hook)))
    assert found == collect_bytes(extraction(clip, get_ops()))
    assert not [w for w in recwarn if w.category is RuntimeWarning]


def test_a_begun_window_is_repeated_where_memory_lacks_to_finish_the_one_before(clip, recwarn):
    begun = 0

    def hook(name, number, arguments):
        nonlocal begun
        begun += name == "gray"
        if name == "warp_homography":
            if begun > 1:
                begun = 0  # what the windows after it hold is given back
                raise DeviceMemoryError("too little")
            begun -= 1

    modalities = ["rgb", "flow", "warped_flow"]
    found = collect_bytes(extraction(clip, HookedOps(hook), modalities))
    assert found == collect_bytes(extraction(clip, get_ops(), modalities))
    assert not [w for w in recwarn if w.category is RuntimeWarning]


def test_too_little_memory_for_a_single_frame_is_an_error(clip):
    with pytest.warns(RuntimeWarning), pytest.raises(DeviceMemoryError):
        list(extraction(clip, HookedOps(scarce(0, "gray"))))


@pytest.mark.parametrize("operation", ["resize", "gray", "take", "warp_homography"])
def test_an_error_comes_out_after_the_windows_before_it_and_no_thread_stays(operation, clip):
    def hook(name, number, arguments):
        if name == operation and number == 2:
            raise DecodeError("broken")

    before, seen = threading.active_count(), 0
    with pytest.raises(DecodeError, match="broken"):
        for _ in extraction(clip, HookedOps(hook)):
            seen += 1
    assert seen == 2 or (operation == "gray" and seen <= 2)
    assert threading.active_count() == before


def test_stopping_early_leaves_no_thread(clip):
    before = threading.active_count()
    for _ in extraction(clip, HookedOps()):
        break
    assert threading.active_count() == before


@pytest.mark.parametrize("slow", list(STAGES))
@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_stage_that_bounds_the_others_is_the_busy_one(slow, on_cpu, clip):
    """An operation that takes a set time stands for a device; the other stages wait for it."""
    pause_s = 0.05

    def hook(name, number, arguments):
        if name == slow:
            time.sleep(pause_s)

    slowed = extraction(clip, HookedOps(hook, on_cpu=on_cpu))
    assert sum(1 for _ in slowed) == WINDOWS
    stage = STAGES[slow]
    assert slowed.busy_s[stage] >= WINDOWS * pause_s
    assert max(slowed.busy_s, key=slowed.busy_s.__getitem__) == stage
    assert slowed.seconds[stage] < WINDOWS * pause_s, "a device's time is not the thread's"
    assert min(slowed.seconds.values()) >= 0 and min(slowed.busy_s.values()) > -1e-3
