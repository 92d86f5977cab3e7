"""One run of ours: `python -m benchmarks.peers.ours SPEC`."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.peers.ours import audiolm, encodec, learning, soundstorm, tokens
from benchmarks.peers.probe import Spec, serve


def describe(spec: Spec) -> dict[str, Any]:
    """The machine, with the threads that are asked for."""
    import torch

    from stages.machine import describe

    torch.set_num_threads(spec["threads"])
    return {"machine": describe(torch.device("cpu"))}


JOBS = {
    "describe": describe,
    "decode": soundstorm.decode,
    "train": soundstorm.train,
    "tokenize": tokens.tokenize,
    "tokens": tokens.write_tokens,
    "learn": learning.learn,
    "coarse": audiolm.coarse,
    "fine": audiolm.fine,
    "checkpoint": encodec.write_checkpoint,
    "encodec": encodec.package,
    "encodec-command": encodec.command,
}

if __name__ == "__main__":
    sys.exit(serve(JOBS, sys.argv[1:]))
