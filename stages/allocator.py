"""The C library's allocator, told what audio and tensors are like."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""

KEPT_BYTES = 512 << 20
"""Free memory at the heap's end that is not given back."""

MAPPED_BYTES = 64 << 20
"""From which size on memory comes from the system alone, and goes back when freed."""

_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is needed next; other C libraries stay as they are.

    By itself it gives tensors' memory back as soon as they are freed, and the system clears every
    page of it anew for the next ones: a tenth of the time of `tokenize-acoustic`. What loading a
    model frees should go back, so call this when models are loaded. The user's environment goes
    first.
    """
    if any(name in os.environ for name in _USERS):
        return
    with suppress(AttributeError, OSError, TypeError):  # where there is no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
