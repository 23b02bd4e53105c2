"""The name of the distribution, what a wheel contains, and advice that installs this project."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import ROOT, python_path

from flowpipe import distribution
from flowpipe.diagnose import libraries
from flowpipe.distribution import NAME, install_command

EXTRAS = ("cuda", "nvdec", "s3", "train", "cluster", "test", "")


def pip(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, in a folder whose name a shell has to have quoted."""
    copy = tmp_path_factory.mktemp("src") / "a lab's [flow] pipe"
    compiled = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("flowpipe", "kernels", "pipelines"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=compiled)
    for file in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout, installed by pip as the README does, without a compiler and its libraries."""
    folder = tmp_path_factory.mktemp("site")
    done = pip(
        "install", "-q", "--no-deps", "--no-build-isolation", "--target", folder, checkout,
        env={**os.environ, "CXX": "false"},
    )  # fmt: skip
    if "setuptools" in done.stderr and done.returncode:
        pytest.skip(f"needs setuptools to build with: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the metadata of an installed distribution where Python looks first."""
    folder = tmp_path / "installed"
    monkeypatch.syspath_prepend(str(folder))

    def write(name: str, version: str, direct: dict[str, object] | None = None) -> Path:
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text("flowpipe\n")
        if direct is not None:
            (info / "direct_url.json").write_text(json.dumps(direct))
        return info

    return write


def test_no_file_advises_to_install_another_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    paths = [ROOT / line for line in listed] or [
        path for name in ("flowpipe", "docs", "pipelines") for path in (ROOT / name).rglob("*")
    ]
    files = [path for path in paths if path.is_file() and path.suffix not in (".so", ".png")]
    assert len(files) > 100
    wrong = re.compile(
        r"(?<![/\w])flowpipe\[|pip (?:install|download)[^\n`&]*?['\" ]flowpipe(?:['\"`\s]|$)"
    )
    for path in files:
        if path != Path(__file__).resolve():
            found = wrong.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{path}: {found}"


def test_setup_gives_the_name_that_the_package_looks_for() -> None:
    assert f'name="{NAME}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert NAME != "flowpipe"


def test_the_required_libraries_are_those_of_setup() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    listed = re.findall(r'"([^"]+)"', text.partition("install_requires=[")[2].partition("]")[0])
    known = {
        f"{name}>={oldest}" if oldest else name for name, oldest in libraries.REQUIRED.values()
    }
    assert known == set(listed) - {"click"}
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    bounds = {name for name in known if ">=" in name}
    assert bounds <= set(re.findall(r"^ +- (\S+)", conda, re.MULTILINE))


def test_this_machine_has_the_required_versions() -> None:
    """All other tests say nothing of a library that is older than the oldest allowed one."""
    assert libraries.find_broken_libraries() == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_printed_advice_installs_this_project(site: Path, checkout: Path, extra: str) -> None:
    """The command is run as printed, by a shell; pip says what it would install."""
    code = f"from flowpipe.distribution import install_command as h; print(h({extra!r}))"
    env = {**os.environ, "PYTHONPATH": python_path(site), "CXX": "false"}
    advice = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, cwd="/"
    ).stdout.strip()
    words = shlex.split(advice)
    assert words[:2] == ["pip", "install"] and words[2].startswith(str(checkout))
    rest = advice.removeprefix("pip install ")
    dry = "install -q --dry-run --ignore-installed --no-deps --no-build-isolation --report -"
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m pip {dry} {rest}",
        shell=True, capture_output=True, text=True, check=False, cwd="/", env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wanted,) = json.loads(done.stdout)["install"]
    assert wanted["metadata"]["name"] == NAME
    assert wanted.get("requested_extras", []) == ([extra] if extra else [])
    assert not extra or extra in wanted["metadata"]["provides_extra"]


@pytest.mark.parametrize(
    ("direct", "advice"),
    [
        (None, f"pip install '{NAME}[cuda]'"),
        (
            {"url": "https://x.org/f.whl", "archive_info": {}},
            f"pip install '{NAME}[cuda] @ https://x.org/f.whl'",
        ),
        (
            {"url": "https://x.org/f.git", "vcs_info": {"vcs": "git", "commit_id": "ab12"}},
            f"pip install '{NAME}[cuda] @ git+https://x.org/f.git@ab12'",
        ),
        (
            {"url": "file:///gone/with%20the/wind", "dir_info": {}},
            "pip install '.[cuda]' in a checkout of flowpipe",
        ),
        (
            {"url": ROOT.as_uri(), "dir_info": {"editable": True}},
            f"pip install -e {shlex.quote(f'{ROOT}[cuda]')}",
        ),
    ],
)
def test_advice_follows_where_it_was_installed_from(
    metadata: Callable[..., Path], direct: dict[str, object] | None, advice: str
) -> None:
    metadata(NAME, "9.1", direct)
    assert install_command("cuda") == advice
    assert distribution.origin().startswith(f"{NAME} 9.1, from ")


def test_egg_info_of_a_build_does_not_hide_what_pip_recorded(
    metadata: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata(NAME, "9.1", {"url": ROOT.as_uri(), "dir_info": {"editable": True}})
    egg = tmp_path / "checkout" / "flowpipe_video.egg-info"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 9.1\n")
    monkeypatch.syspath_prepend(str(egg.parent))
    assert install_command("cuda") == f"pip install -e '{ROOT}[cuda]'"


def test_doctor_names_a_distribution_that_owns_the_same_package(
    metadata: Callable[..., Path],
) -> None:
    metadata(NAME, "9.1")
    before = {name for name in distribution.owners("flowpipe") if name != NAME}
    metadata("flowpipe", "1.3.0")
    found = libraries.find_owner()
    assert found.state == "fault" and f"{NAME} 9.1" in found.found
    assert "flowpipe 1.3.0" in found.found and "pip uninstall -y" in found.cost
    assert distribution.owners("flowpipe") == sorted({*before, "flowpipe", NAME})


def test_files_overwritten_by_another_project_are_reported_with_a_remedy(
    site: Path, tmp_path: Path
) -> None:
    """As `pip install flowpipe` leaves it: its __init__.py and errors.py in place of ours."""
    mixed = shutil.copytree(site, tmp_path / "mixed")
    (mixed / "flowpipe" / "__init__.py").write_text('"""Another project."""\n__version__ = "1.3.0"')
    (mixed / "flowpipe" / "errors.py").write_text("class CycleError(Exception): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "flowpipe", "doctor"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path(mixed)},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "files of another project" in done.stderr
    assert "pip uninstall -y flowpipe && pip install --force-reinstall" in done.stderr


def test_a_wheel_has_the_name_and_the_package(site: Path) -> None:
    (info,) = site.glob("*.dist-info")
    found = importlib.metadata.Distribution.at(info)
    assert found.metadata["Name"] == NAME
    assert {e.name: e.value for e in found.entry_points} == {"flowpipe": "flowpipe.cli:main"}
    assert not [r for r in found.requires or [] if r.partition(" ")[0].lower() == "flowpipe"]


def test_a_wheel_has_the_sources_of_kernels_and_nothing_of_the_tests(site: Path) -> None:
    """The emulator only runs kernels of a checkout, for its tests."""
    paths = (path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc")
    files = {path.relative_to(site).as_posix() for path in paths}
    tests = "emulator", "stand_in", "benchmarks/", "tests/"
    assert not [name for name in files if any(word in name for word in tests)]
    for folder, package in (("kernels/cuda", "_kernels/cuda"), ("pipelines", "_pipelines")):
        kept = (path for path in (ROOT / folder).iterdir() if path.suffix in (".cu", ".yaml"))
        assert {f"flowpipe/{package}/{path.name}" for path in kept} <= files
    assert {"flowpipe/py.typed", "flowpipe/store/FORMAT.md"} <= files
