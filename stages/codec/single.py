"""One utterance through a codec, alone, so that what comes out is its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stages.audio.reading import Waveform
from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.errors import RowFailure

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One utterance's acoustic tokens."""

    codes: npt.NDArray[np.uint16]
    """`[T, Q]`."""

    source_samples: int
    """Of the file as it lies on disk, at `source_rate` Hz."""

    source_rate: int


def encode_waveform(codec: Codec, waveform: Waveform) -> EncodedRow:
    """Tokenize what was read from a file.

    Raises:
        RowFailure: if it has no samples.
    """
    return EncodedRow(
        codes=encode_samples(codec, waveform.samples),
        source_samples=waveform.source_samples,
        source_rate=waveform.source_rate,
    )


def encode_samples(codec: Codec, samples: Samples) -> npt.NDArray[np.uint16]:
    """`[C, N]` samples at the codec's rate to `[T, Q]` tokens.

    Raises:
        RowFailure: if there are no samples.
    """
    length = samples.shape[1]
    if length == 0:
        raise RowFailure("the audio has no samples")
    audio = AudioBatch(samples=torch.from_numpy(samples)[None], lengths=torch.tensor([length]))
    codes: npt.NDArray[np.uint16] = codec.encode(audio).codes[0].cpu().numpy().astype(np.uint16)
    return codes


def decode_codes(codec: Codec, codes: npt.NDArray[Any]) -> Samples:
    """`[T, Q]` tokens to `[C, T x hop]` samples.

    Raises:
        RowFailure: if there are no frames, or the codec makes samples that are no finite numbers.
    """
    if len(codes) == 0:
        raise RowFailure("the row has no acoustic frames")
    tokens = torch.from_numpy(codes.astype(np.int64))[None]  # [1, T, Q]
    audio = codec.decode(AcousticTokens(codes=tokens, lengths=torch.tensor([len(codes)])))
    samples: Samples = audio.samples[0, :, : int(audio.lengths[0])].cpu().numpy()
    if not np.isfinite(samples).all():
        raise RowFailure("the codec made samples that are NaN or infinite of these tokens")
    return samples


def reconstruct(codec: Codec, samples: Samples) -> Samples:
    """What is left of `[C, N]` samples at the codec's rate after its tokens: `[C, N]` again.

    Raises:
        RowFailure: if there are no samples, or none that are finite come out.
    """
    return decode_codes(codec, encode_samples(codec, samples))[:, : samples.shape[1]]
