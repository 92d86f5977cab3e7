"""One run of a peer: `python -m benchmarks.peers.theirs SPEC`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from benchmarks.peers.probe import Spec, serve
from benchmarks.peers.theirs import audiolm, encodec, learning, soundstorm

PACKAGES = (
    "soundstorm-pytorch", "audiolm-pytorch", "encodec", "torch", "torchaudio", "einops",
    "hyper-connections", "vector-quantize-pytorch", "accelerate",
)  # fmt: skip


def versions(spec: Spec) -> dict[str, Any]:
    """Releases of what is compared and of what it rests on."""
    del spec
    return {"versions": {name: importlib.metadata.version(name) for name in PACKAGES}}


JOBS = {
    "versions": versions,
    "decode": soundstorm.decode,
    "train": soundstorm.train,
    "learn": learning.learn,
    "coarse": audiolm.coarse,
    "fine": audiolm.fine,
    "encodec": encodec.package,
    "encodec-command": encodec.command,
}

if __name__ == "__main__":
    sys.exit(serve(JOBS, sys.argv[1:]))
