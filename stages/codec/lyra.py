"""Lyra V2: Google's published SoundStream at 16 kHz, 50 frames a second, 46 levels of 16.

Three TFLite files (`lyra/model_coeffs` of the Lyra repository): the encoder turns 320 samples into
64 features, the quantizer features into codes and back, the decoder features into 320 samples.
Encoder and decoder carry their state from call to call, so they see one utterance a frame at a
time, from a fresh interpreter each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.codec.levels import choose_levels
from stages.errors import DataMismatch
from stages.shards.provenance import hash_file, hash_json

ENCODER = "soundstream_encoder.tflite"
QUANTIZER = "quantizer.tflite"
DECODER = "lyragan.tflite"

SAMPLE_RATE = 16_000
HOP = 320
FRAME_RATE = Fraction(50)
LEVELS = 46
CODEBOOK_SIZE = 16
FEATURES = 64
UNUSED = -1
"""What the quantizer has at the levels past those asked for."""


class LyraCodec(Codec):
    """Lyra's SoundStream from a folder with its three TFLite files.

    Raises:
        DataMismatch: if a file is missing or no such model, or `ai-edge-litert` is not installed.
    """

    in_processes = True  # the interpreters run frame by frame on one core

    def __init__(
        self, folder: Path, *, levels: int | None = None, bitrate: float | None = None
    ) -> None:
        for name in (ENCODER, QUANTIZER, DECODER):
            if not (folder / name).is_file():
                raise DataMismatch(
                    f"{folder} has no {name}: the lyra codec needs {ENCODER}, {QUANTIZER} and "
                    f"{DECODER} from `lyra/model_coeffs` of the Lyra repository"
                )
        self.name = f"lyra:{folder}"
        self.models = {name: hash_file(folder / name) for name in (ENCODER, QUANTIZER)}
        self.fingerprint = hash_json({"codec": "lyra", "models": self.models})
        self.decoder_fingerprint = hash_json([self.fingerprint, hash_file(folder / DECODER)])
        self.sample_rate, self.channels, self.frame_rate = SAMPLE_RATE, 1, FRAME_RATE
        self.codebook_size = CODEBOOK_SIZE
        self.levels = choose_levels(
            name=self.name,
            available=LEVELS,
            frame_rate=FRAME_RATE,
            codebook_size=CODEBOOK_SIZE,
            default=LEVELS,
            levels=levels,
            bitrate=bitrate,
        )
        self._folder = folder
        with _without_greeting():
            self._quantizer = _interpreter(folder / QUANTIZER)
            fits = self._check()
        if not fits:
            raise DataMismatch(
                f"the files in {folder} are not those of Lyra V2 ({HOP} samples to {FEATURES} "
                f"features to {LEVELS} codes): take all three from one release"
            )

    def encode(self, audio: AudioBatch) -> AcousticTokens:
        """`[B, 1, N]` at 16 kHz to `[B, ceil(N / 320), Q]`; the last frame ends in silence."""
        rows = [
            self._encode_row(samples[0, : int(length)].cpu().numpy())
            for samples, length in zip(audio.samples, audio.lengths, strict=True)
        ]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        codes = torch.zeros(len(rows), max(map(len, rows), default=0), self.levels).long()
        for row, target in zip(rows, codes, strict=True):
            target[: len(row)] = torch.from_numpy(row)
        return AcousticTokens(codes=codes, lengths=lengths)

    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        """`[B, T, Q]` (Q at most 46) to `[B, 1, T x 320]` at 16 kHz."""
        batch, frames, levels = tokens.codes.shape
        if levels > LEVELS:
            raise DataMismatch(f"{self.name} has {LEVELS} levels, and these tokens {levels}")
        samples = torch.zeros(batch, 1, frames * HOP)
        for codes, length, target in zip(tokens.codes, tokens.lengths, samples, strict=True):
            row = self._decode_row(codes[: int(length)].cpu().numpy())
            target[0, : len(row)] = torch.from_numpy(row)
        return AudioBatch(samples=samples, lengths=tokens.lengths * HOP)

    def codebooks(self) -> Tensor:
        """`[Q, 16, 64]`, read from the quantiser by turning single codes into features."""
        entries = torch.zeros(self.levels, CODEBOOK_SIZE, FEATURES)
        for level in range(self.levels):
            indices = np.full((LEVELS, 1, 1), UNUSED, dtype=np.int32)
            indices[:level] = 0  # a level counts only if all the coarser ones are there
            without = self._features(indices)
            for code in range(CODEBOOK_SIZE):
                indices[level, 0, 0] = code
                entries[level, code] = torch.from_numpy(self._features(indices) - without)
        return entries

    def _check(self) -> bool:
        """Whether the three files have the geometry of this release."""
        try:
            self._quantize = self._quantizer.get_signature_runner("encode")
            self._dequantize = self._quantizer.get_signature_runner("decode")
            encoder = _interpreter(self._folder / ENCODER).get_signature_runner()
            decoder = _interpreter(self._folder / DECODER).get_signature_runner()
            silence = self._dequantize(encoding_indices=np.zeros((LEVELS, 1, 1), dtype=np.int32))
            return (
                silence["output_0"].shape == (1, 1, FEATURES)
                and list(encoder.get_input_details()["input_audio"]["shape"]) == [1, HOP]
                and list(decoder.get_input_details()["input_audio"]["shape"]) == [1, 1, FEATURES]
            )
        except (ValueError, KeyError):
            return False

    def _encode_row(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """`[N]` to `[T, Q]`."""
        # A fresh interpreter (1 ms) rather than `reset_all_variables`, which leaves the state of
        # these files as it was: the second utterance would depend on the first.
        encode = _interpreter(self._folder / ENCODER).get_signature_runner()
        frames = -(-len(samples) // HOP)
        padded = np.zeros((frames, 1, HOP), dtype=np.float32)
        padded.reshape(-1)[: len(samples)] = samples
        codes = np.zeros((frames, self.levels), dtype=np.int64)
        wanted = np.array(self.levels, dtype=np.int32)
        for index, frame in enumerate(padded):
            features = encode(input_audio=frame)["output_0"]  # [1, 1, 64]
            output = self._quantize(input_frames=features, num_quantizers=wanted)
            codes[index] = output["output_0"][: self.levels, 0, 0]  # of [46, 1, 1]
        return codes

    def _decode_row(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """`[T, Q]` to `[T x 320]`."""
        decode = _interpreter(self._folder / DECODER).get_signature_runner()
        levels = codes.shape[1]
        indices = np.full((LEVELS, 1, 1), UNUSED, dtype=np.int32)
        samples = np.zeros((len(codes), HOP), dtype=np.float32)
        for index, frame in enumerate(codes):
            indices[:levels, 0, 0] = frame
            features = self._features(indices)[None, None]  # [1, 1, 64]
            samples[index] = decode(input_audio=features)["output_0"][0]
        return samples.reshape(-1)

    def _features(self, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The codes of one frame, `[46, 1, 1]`, to features, `[64]`."""
        features = self._dequantize(encoding_indices=indices)["output_0"]  # [1, 1, 64]
        return np.array(features[0, 0], dtype=np.float32)


def _interpreter(path: Path) -> Any:
    """A single-threaded TFLite interpreter; its first state is always the same."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise DataMismatch(
            "the lyra codec needs the package ai-edge-litert: pip install 'soundstorm[lyra]'"
        ) from None
    try:
        return Interpreter(str(path), num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise DataMismatch(f"{path} is no TFLite model ({error}): copy it again") from None


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep off standard error what the runtime's C++ says there, once, when it first starts."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
