"""encodec: its package in a loop over files, and its command once a file."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.peers.probe import Spec, Stopwatch, children_bytes, peak_bytes

KILOBITS = 6.0
"""The command's default: 8 levels at 24 kHz."""


def package(spec: Spec) -> dict[str, Any]:
    """As its README has it: read, convert, encode, one file after the other in one process.

    Seconds include the loading of the weights, but not the imports.
    """
    import torch

    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")
    peer = importlib.import_module("encodec")
    utils = importlib.import_module("encodec.utils")
    imported = peak_bytes()
    digest = hashlib.sha256()
    with Stopwatch() as watch, torch.no_grad():
        model = peer.EncodecModel.encodec_model_24khz()
        model.set_target_bandwidth(KILOBITS)
        for path in spec["files"]:
            sound, rate = read(path)
            sound = utils.convert_audio(sound, rate, model.sample_rate, model.channels)
            ((codes, _),) = model.encode(sound[None])  # [1, Q, T]
            digest.update(codes[0].T.to(torch.int16).contiguous().numpy().tobytes())
    return {"seconds": watch.seconds, "imported_bytes": imported, "codes": digest.hexdigest()}


def command(spec: Spec) -> dict[str, Any]:
    """`encodec FILE FILE.ecdc`, once a file: the command takes no more at a time.

    Where torchaudio reads no files (since 2.9 it needs torchcodec), this module stands before the
    command and gives torchaudio another reader.
    """
    target = Path(spec["output"])
    with Stopwatch() as watch:
        for path in spec["files"]:
            out = target / f"{Path(path).stem}.ecdc"
            line = [sys.executable, "-m", "benchmarks.peers.theirs.encodec", "-f", path, str(out)]
            subprocess.run(line, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    return {"seconds": watch.seconds, "peak_bytes": children_bytes(), "own_reader": own_reader()}


def read(path: str) -> tuple[Any, int]:
    """`[C, N]` float32 and the sample rate."""
    import soundfile
    import torch

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


def own_reader() -> bool:
    """Whether torchaudio reads files here without `read` in its place."""
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def main() -> None:
    """The package's command, on `sys.argv`."""
    import torchaudio

    if not own_reader():
        torchaudio.load = read
    importlib.import_module("encodec.__main__").main()


if __name__ == "__main__":
    main()
