"""Tokenizing in worker processes, for codecs whose one copy keeps only one core busy."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stages.audio.reading import read_audio
from stages.codec.base import Codec
from stages.codec.single import EncodedRow, encode_waveform
from stages.errors import RowFailure
from stages.worker_team import WorkerTeam


def encoding_team(codec: Codec) -> WorkerTeam[str, EncodedRow | RowFailure]:
    """Processes, each with its own copy of a codec, that read and tokenize the files of paths."""
    return WorkerTeam(_encoder, codec.name, codec.levels, does="tokenizes audio")


def _encoder(name: str, levels: int) -> Callable[[str], EncodedRow | RowFailure]:
    """What a worker does with a path."""
    from stages.codec.registry import load_codec

    torch.set_num_threads(1)
    codec = load_codec(name, levels=levels)

    def encode(path: str) -> EncodedRow | RowFailure:
        try:
            waveform = read_audio(path, sample_rate=codec.sample_rate, channels=codec.channels)
            return encode_waveform(codec, waveform)
        except RowFailure as failure:
            return failure

    return encode
