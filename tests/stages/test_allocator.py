"""Freed memory is kept for what comes next, unless the user's environment says how."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from stages.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(20):
        kept = [torch.ones(1 << 16), torch.ones(1 << 18), torch.ones(1 << 20)]  # to 4 MiB

work()
before = faults()
work()
print(faults() - before)
"""


def faults(how: str, **environment: str) -> int:
    """Pages that the system cleared for tensors that come and go."""
    plain = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env={**plain, **environment}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_freed_is_kept() -> None:
    back = {"MALLOC_TRIM_THRESHOLD_": "0"}
    assert faults("keep") < 100
    assert faults("as it comes", **back) > 1000
    assert faults("keep", **back) > 1000, "the user's word goes first"
