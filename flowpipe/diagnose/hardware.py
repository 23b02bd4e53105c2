"""This machine -> findings on its processor and GPUs."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import replace
from pathlib import Path

from flowpipe.diagnose.libraries import Finding
from flowpipe.ops.cuda.devices import gpus
from flowpipe.words import byte_size, count_noun


def hardware() -> list[Finding]:
    """Return findings on the processor, and on the GPUs if there are any."""
    return [_processor(), *_cuda()]


FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")


def _processor() -> Finding:
    model, features = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = {key.strip(): value for key, _, value in (line.partition(": ") for line in lines)}
        model = facts.get("model name", model)
        features = " ".join(f for f in FEATURES if f in facts.get("flags", "").split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{model}, {count_noun(cores or 1, 'usable core')}, {platform.machine()} {features}"
    return Finding("processor", "ok", found.rstrip())


def _cuda() -> list[Finding]:
    found = gpus()
    driver = f"goes up to CUDA {found.driver}" if found.driver else "none"
    cupy = f"{found.cupy}, built for CUDA {found.runtime}" if found.cupy else "missing"
    rows = [("CUDA driver", found.driver, driver), ("CuPy", found.cupy, cupy)]
    if not found.names:
        rows.append(("GPUs", "", "none that can be used"))
    findings = [
        Finding(topic, "ok" if there else "lack", words, "" if there else "see GPUs")
        for topic, there, words in rows
    ]
    for i, (name, memory, capability) in enumerate(
        zip(found.names, found.memory_bytes, found.capabilities, strict=True)
    ):
        words = f"{name}, {byte_size(memory)}, compute capability {'.'.join(map(str, capability))}"
        findings.append(Finding(f"GPU {i}", "ok" if found.available else "lack", words))
    if not found.available:
        findings[-1] = replace(findings[-1], cost=f"flow runs on the CPU cores; {found.reason}")
    return findings
