"""benchmarks/gpu: a small rehearsal of its steps, its page of results, and its packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkout import ROOT

from flowpipe.ops.cpu import native_core

KIT = ROOT / "benchmarks" / "gpu"
MODULES = ("on_gpu", "pack", "page", "folders", "setting_up", "steps", "checks", "contents",
           "decoders", "stores", "gpu_probes", "tools", "training", "watch")  # fmt: skip
EMULATED = [
    pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]
FEW = ("machine", "selftest", "extract:1", "sanitize:memcheck", "profile")


@pytest.fixture(scope="module")
def kit() -> Iterator[Any]:
    """The modules of benchmarks/gpu, by name, for the tests of this file alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(KIT)
        yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
    for name in MODULES:
        del sys.modules[name]


def on_gpu(*options: str, out: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHON": sys.executable, "OUT": str(out)}
    return subprocess.run(["bash", str(KIT / "on-gpu"), *options], env=env, cwd=out,
                          capture_output=True, text=True)  # fmt: skip


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results of a rehearsal of a few steps in a checkout for which nothing was packed."""
    out = tmp_path_factory.mktemp("gpu-results")
    work = tmp_path_factory.mktemp("work")
    ran = on_gpu("--rehearse", "--seconds", "240", "--only", ",".join(FEW), "--work", str(work),
                 "--packed", str(work / "nothing"), out=out)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return out, ran.stdout


class TestRehearsal:
    pytestmark = EMULATED

    def test_every_step_has_a_line_figures_and_a_log(self, rehearsed: tuple[Path, str]) -> None:
        out, printed = rehearsed
        lines = (out / "summary.txt").read_text(encoding="utf-8").splitlines()
        assert printed.splitlines() == lines
        steps = json.loads((out / "figures.json").read_text(encoding="utf-8"))["steps"]
        assert [*steps] == ["setup", *FEW]
        with tarfile.open(out / "logs.tar.gz") as archive:
            logs = [name for name in archive.getnames() if name.endswith(".log")]
        assert len(logs) == len(steps)
        for name, step in steps.items():
            assert step["verdict"] == "ok", step
            assert any(line.startswith(f"ok    {name} ") for line in lines)

    def test_an_extraction_says_who_waited_for_whom(self, rehearsed: tuple[Path, str]) -> None:
        steps = json.loads((rehearsed[0] / "figures.json").read_text(encoding="utf-8"))["steps"]
        found = steps["extract:1"]["figures"]
        assert found["device"].startswith("cuda") and found["frames"] > 0
        assert {"decode", "compute", "encode", "write"} <= set(found["busy"])
        assert max(found["busy"].values()) <= 1.01 and found["frames_per_s"] > 0
        assert found["gpu"]["busy_%"] == 50 and "watts" not in found["gpu"], "[N/A] is no figure"

    def test_it_becomes_a_page_once_it_is_no_rehearsal(
        self, rehearsed: tuple[Path, str], kit: Any, tmp_path: Path
    ) -> None:
        figures = json.loads((rehearsed[0] / "figures.json").read_text(encoding="utf-8"))
        with pytest.raises(ValueError, match="rehearsal"):
            kit.page.keep(figures, tmp_path)
        assert kit.page.page(tmp_path).endswith("Nothing has been measured on a GPU yet.\n")
        kept = kit.page.keep({**figures, "rehearsal": False}, tmp_path)
        assert kept.name == "emulator.json" and str(ROOT) not in kept.read_text(encoding="utf-8")
        text = kit.page.page(tmp_path)
        for words in ("## emulator", "### Steps", "### Extraction", "| tvl1_level | 1234.5 us |"):
            assert words in text
        for sources, told in ((figures["sources"], kit.folders.commit()), ("others", "")):
            bare = {**figures, "rehearsal": False, "commit": "", "sources": sources}
            kept = json.loads(kit.page.keep(bare, tmp_path).read_text(encoding="utf-8"))
            assert kept["steps"]["machine"]["commit"] == told, "where git was not at hand"
        later = {"verdict": "FAIL", "seconds": 1, "words": "no | more", "figures": {}}
        again = {**figures, "rehearsal": False, "commit": "later"}
        again["steps"] = {**figures["steps"], "extract:1": later}
        kit.page.keep(again, tmp_path)
        assert "| extract:1 | FAIL | later | no \\| more |" in kit.page.page(tmp_path)


def test_the_page_shows_the_kept_figures(kit: Any) -> None:
    assert kit.page.PAGE.read_text(encoding="utf-8") == kit.page.page()


def test_the_steps_are_explained(kit: Any) -> None:
    text = (KIT / "README.md").read_text(encoding="utf-8")
    for step in (kit.steps.SETUP, *kit.steps.STEPS):
        family = step.name.partition(":")[0]
        assert f"`{step.name}`" in text or f"`{family}:" in text, step.name
        assert step.least_s < step.limit_s


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_step_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    ran = on_gpu("--only", "selftset", out=tmp_path)
    assert ran.returncode == 2 and "selftest" in ran.stderr
    listed = on_gpu("--only", "extract,mps", "--list", out=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed][:3] == ["extract:fill", "extract:16", "extract:1"]
    assert not list(tmp_path.iterdir())


def test_packages_of_another_python_are_refused(kit: Any, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("2.7", encoding="utf-8")
    found = kit.setting_up.setup(kit.folders.Folders(tmp_path, tmp_path / "work", rehearse=True))
    assert not found.ok and "is packed for Python 2.7, this is 3." in found.words


def test_a_step_that_hangs_leaves_nothing_running(kit: Any, tmp_path: Path) -> None:
    """What a step has started ends with it, also what does not listen to SIGTERM."""
    script = "trap '' TERM; (trap '' TERM; sleep 300; true) & echo $! > grandchild; wait"
    child = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, start_new_session=True)
    written = tmp_path / "grandchild"
    until = time.monotonic() + 20
    while not (written.exists() and written.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.01)
    kit.on_gpu.end(child, grace_s=0.1)
    assert child.returncode is not None
    until = time.monotonic() + 20
    while is_alive(int(written.read_text())) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(int(written.read_text()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_kernels_that_are_profiled_exist(kit: Any) -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "kernels" / "cuda").glob("*.cu")]
    for name in kit.tools.PROFILED:
        assert any(re.search(rf"\b{name}\(", text) for text in sources), name


def test_a_trace_is_added_up_by_kernel(kit: Any, tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": "tile", "ts": 10, "dur": 6},
        {"ph": "X", "cat": "kernel", "name": "tile", "ts": 16, "dur": 2},
        {"ph": "X", "cat": "gpu_memcpy", "name": "copy", "ts": 17, "dur": 3},
        {"ph": "X", "cat": "kernel", "name": "warp", "ts": 28, "dur": 2},
        {"ph": "X", "cat": "cpu_op", "name": "host", "ts": 0, "dur": 99},
        {"ph": "M", "name": "process_name"},
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
    found = kit.gpu_probes.read_trace(path, kit.gpu_probes.DEVICE_EVENTS, 2)
    assert [(r["name"], r["launches"], r["us_a_pair"]) for r in found["kernels"]] == [
        ("tile", 2, 4.0), ("copy", 1, 1.5), ("warp", 1, 1.0),
    ]  # fmt: skip
    assert found["busy_us_a_pair"] == 6 and found["span_us_a_pair"] == 10
    assert found["idle_share"] == pytest.approx(0.4)


def test_the_report_of_the_tests_names_what_did_not_pass(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="a" name="good"/>'
        '<testcase classname="a" name="bad"><failure message="line&#10;1 &gt; 0"/></testcase>'
        '<testcase classname="a" name="left"><skipped message="needs NVDEC"/></testcase>'
        "</testsuite></testsuites>",
        encoding="utf-8",
    )
    counts, details = kit.checks.read_junit(path)
    assert counts == {"passed": 1, "failed": 1, "error": 0, "skipped": 1}
    assert details == ["failed a::bad: 1 > 0", "skipped a::left: needs NVDEC"]


def test_stores_are_judged_by_modality(kit: Any) -> None:
    def sums(differ: int, beyond: int) -> dict[str, int]:
        return {"values": 10_000, "differ": differ, "beyond": beyond, "worst": 2}

    judged = kit.contents.judge
    assert judged({"rgb": sums(0, 0), "flow": sums(900, 10)}, exact=False).ok
    assert not judged({"rgb": sums(0, 0), "flow": sums(900, 11)}, exact=False).ok
    assert not judged({"rgb": sums(1, 0), "flow": sums(0, 0)}, exact=False).ok
    assert not judged({"flow": sums(1, 0)}, exact=True).ok
    assert not judged({}, exact=True).ok, "nothing was compared"


# ---- packing

METADATA = """\
Name: flowpipe-video
Requires-Dist: numpy>=2
Requires-Dist: opencv-contrib-python-headless>=4.10
Requires-Dist: PyJpegLS
Requires-Dist: pynvvideocodec>=2.2.4; sys_platform == "linux" and extra == "nvdec"
Requires-Dist: torch; extra == "train"
"""
HAVE = """\
numpy   # any
opencv-python-headless for opencv_contrib-python.headless
torch
"""


def test_installed_packages_are_not_packed(kit: Any) -> None:
    have = kit.pack.read_have(HAVE)
    assert kit.pack.requirements(METADATA, have) == ["PyJpegLS"]
    assert kit.pack.requirements(METADATA, have, "nvdec") == ["pynvvideocodec>=2.2.4"]
    assert kit.pack.requirements(METADATA, have, "train") == []
    found = {"install": [{"metadata": {"name": name, "version": "1"}} for name in ("Numpy", "av")]}
    assert kit.pack.list_lacking(found, have) == ["av==1"]


def test_every_requirement_is_packed_or_installed(kit: Any) -> None:
    """The list of the GPU machine's packages names what its commands and steps load first."""
    have = kit.pack.read_have((KIT / "have.txt").read_text(encoding="utf-8"))
    assert {"numpy", "torch", "pytest", "pytest-xdist", "opencv-contrib-python-headless"} <= have
    assert "av" not in have


def test_the_least_useful_parts_are_left_out(kit: Any) -> None:
    sizes = {"site": 30, "nvdec": 3, "weights": 16, "truth": 4}
    assert kit.pack.choose_left_out(sizes, others=7, limit=60) == []
    assert kit.pack.choose_left_out(sizes, others=7, limit=59) == ["truth"]
    assert kit.pack.choose_left_out(sizes, others=7, limit=50) == ["truth", "weights"]
    assert kit.pack.choose_left_out(sizes, others=90, limit=50) == ["truth", "weights", "nvdec"]


def test_packed_wheels_are_unpacked_as_installed(kit: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("thing/__init__.py", "x = 1\n")
        file.writestr("thing-1.data/purelib/beside.py", "y = 2\n")
        file.writestr("thing-1.data/scripts/thing", "#!python\n")
        file.writestr("thing-1.dist-info/METADATA", "Name: thing\nVersion: 1\n"
                      "Requires-Dist: no-such-package-of-anybody>=3\n")  # fmt: skip
        file.writestr("samples/large.bin", "never used")
    packed = tmp_path / "packed"
    packed.mkdir()
    packer = kit.pack.Packer(packed, "3.12", set(), tmp_path / "scratch")
    packer.wheels("site", [wheel], ["thing==1"])
    assert packer.is_packed("site", ["thing==1"]) and not packer.is_packed("site", ["thing==2"])
    folders = kit.folders.Folders(packed, tmp_path / "work", rehearse=True)
    folders.work.mkdir()
    assert kit.setting_up.unpack(folders) == ["site"]
    site = folders.work / "site"
    names = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert names == {"thing/__init__.py", "beside.py", "thing-1.dist-info/METADATA"}
    (lack,) = kit.setting_up.unmet(site)
    assert lack == "thing requires no-such-package-of-anybody>=3; installed: none"


def test_clips_and_true_flows_are_taken(kit: Any, tmp_path: Path, shared_data: Path) -> None:
    packer = kit.pack.Packer(tmp_path / "packed", "3.12", set(), tmp_path / "scratch")
    truth = packer.data(shared_data)
    folders = kit.folders.Folders(tmp_path / "packed", tmp_path / "work", rehearse=False)
    assert folders.data == tmp_path / "packed" / "data"
    assert len(folders.clips()) == 8 and all(path.stat().st_size for path in folders.clips())
    assert len(list(folders.data.glob("flow/middlebury/*/frame1?.png"))) >= 2
    assert list(truth.glob("flow/middlebury/*/flow10.flo"))
