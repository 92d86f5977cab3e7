"""EnCodec: `soundstorm tokenize-acoustic`, and the checkpoint and files that both sides read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.peers.probe import Spec, Stopwatch, children_bytes, peak_bytes

SAMPLE_RATE = 24_000


def write_checkpoint(spec: Spec) -> dict[str, Any]:
    """A random EnCodec in the package's format, and the speech as 24 kHz WAV files.

    Published weights need a network; what a pass costs does not depend on them. The files have
    the codec's rate, so that neither side resamples.
    """
    import soundfile
    import torch
    from encodec import EncodecModel

    from stages.audio.reading import read_audio
    from stages.audio.sources import find_utterances

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EncodecModel.encodec_model_24khz(pretrained=False)
    for layer in model.quantizer.vq.layers:  # as made they are all zero and not in use
        layer._codebook.embed.normal_()
        layer._codebook.inited.fill_(1)
    checkpoint = Path(spec["checkpoint"])
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), checkpoint)
    folder = Path(spec["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    seconds = 0.0
    for utterance in find_utterances(spec["speech"])[: spec["limit"]]:
        samples = read_audio(utterance["audio"], sample_rate=SAMPLE_RATE, channels=1).samples
        files.append(str(folder / f"{len(files):04d}.wav"))
        soundfile.write(files[-1], samples.T, SAMPLE_RATE, subtype="PCM_16")
        seconds += samples.shape[-1] / SAMPLE_RATE
    return {"files": files, "audio_seconds": seconds}


def package(spec: Spec) -> dict[str, Any]:
    """What the command does with each file, in a loop in one process.

    Seconds include the loading of the weights, but not the imports.
    """
    import torch

    from stages.audio.reading import read_audio
    from stages.codec.registry import load_codec
    from stages.codec.single import encode_waveform

    torch.set_num_threads(spec["threads"])
    import encodec  # noqa: F401

    imported = peak_bytes()
    digest = hashlib.sha256()
    with Stopwatch() as watch:
        codec = load_codec(f"encodec_24khz:{spec['checkpoint']}", device="cpu")
        for path in spec["files"]:
            sound = read_audio(path, sample_rate=codec.sample_rate, channels=codec.channels)
            digest.update(encode_waveform(codec, sound).codes.astype("int16").tobytes())
    return {"seconds": watch.seconds, "imported_bytes": imported, "codes": digest.hexdigest()}


def command(spec: Spec) -> dict[str, Any]:
    """The command over the folder, from its start to its end, and the tokens that it wrote."""
    target = Path(spec["output"]) / "tokens"
    line = [
        sys.executable, "-m", "soundstorm_cli.main", "tokenize-acoustic", spec["folder"],
        "-o", str(target), "--codec", f"encodec_24khz:{spec['checkpoint']}", "--device", "cpu",
        "--workers", "0", "--force", "--quiet",
    ]  # fmt: skip
    with Stopwatch() as watch:
        subprocess.run(line, check=True)
    # Only now: a child's peak begins with what its parent had when it was started.
    from stages.shards.reader import open_rows

    digest = hashlib.sha256()
    with open_rows([str(target)]) as source:
        rows = sorted(source.rows(["id", "acoustic"]), key=lambda row: str(row["id"]))
    for row in rows:
        digest.update(row["acoustic"].astype("int16").tobytes())
    return {"seconds": watch.seconds, "peak_bytes": children_bytes(), "codes": digest.hexdigest()}
