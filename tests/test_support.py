"""Files of the tests open with what they document, and stand-ins with what they cannot prove."""

from __future__ import annotations

import pytest
from checkout import ROOT

SUPPORT = ROOT / "tests" / "support"
STAND_INS = [
    SUPPORT / "cuda_stand_in" / "cupy" / "__init__.py",
    SUPPORT / "nvdec_stand_in" / "PyNvVideoCodec" / "__init__.py",
    SUPPORT / "fake_cupy.py",
    SUPPORT / "fake_cv2_cuda.py",
    SUPPORT / "gpus_stand_in.py",
    ROOT / "kernels" / "emulator" / "cuda_emulator.h",
]


@pytest.mark.parametrize("path", STAND_INS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_first_line_of_a_stand_in_says_what_it_proves_and_what_it_does_not(path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0].lstrip('/" ')
    assert first.startswith(("Stand-in of ", "Emulator of "))
    assert ": proves " in first and ", not " in first and first.endswith((".", '."""'))


def test_every_module_of_the_tests_opens_with_a_sentence() -> None:
    first = {
        path: path.read_text("utf-8").partition("\n\n")[0].removesuffix('"""').rstrip()
        for path in (ROOT / "tests").rglob("*.py")
    }
    silent = [path for path, text in first.items() if not text.startswith('"""')]
    assert len(first) > 100 and silent == []
    assert [path for path, text in first.items() if not text.endswith((".", "?"))] == []


def test_helpers_lie_in_support() -> None:
    """Else two folders of tests come to depend on each other."""
    others = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
        and SUPPORT not in path.parents
    ]  # fmt: skip
    assert others == []
