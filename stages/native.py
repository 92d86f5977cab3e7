"""Shared libraries that a dependency wants from the system and that a wheel brings as well."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def preload_sndfile() -> None:
    """Make `import fairseq2` work where the system has no libsndfile; call it just before.

    fairseq2 loads `libsndfile.so.1` by name; the library inside soundfile's wheel answers to that
    name once it is in the process.
    """
    with suppress(OSError):
        ctypes.CDLL("libsndfile.so.1", mode=ctypes.RTLD_GLOBAL)
        return
    spec = find_spec("_soundfile_data")
    for folder in spec.submodule_search_locations or () if spec else ():
        for library in sorted(Path(folder).glob("libsndfile*")):
            with suppress(OSError):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
                return
