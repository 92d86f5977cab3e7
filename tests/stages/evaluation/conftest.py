"""A codec simple enough to predict, tiny token sets and models, and systems made of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.errors import RowFailure
from stages.evaluation.systems import System
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import (
    AUDIO,
    ID,
    PROMPT_FRAMES,
    SEMANTIC,
    SPEAKER,
    TEXT,
    Row,
    acoustic_field,
)
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.model import to_model_file
from stages.soundstorm.network import SoundStorm

WriteTokens = Callable[..., Path]
MakeSystem = Callable[..., "NumberSystem"]


class ToneCodec(Codec):
    """One level of eight codes at 50 Hz: code c is a square wave of amplitude c / 10."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.decoder_fingerprint = "tones", "c" * 64, "d" * 64
        self.models = {"tones": "c" * 64}
        self.sample_rate, self.channels, self.frame_rate = 16_000, 1, Fraction(50)
        self.levels, self.codebook_size = 1, 8

    def encode(self, audio: AudioBatch) -> AcousticTokens:
        padded = torch.nn.functional.pad(audio.samples[:, 0], (0, -audio.samples.shape[2] % 320))
        loudness = padded.unfold(1, 320, 320).abs().amax(dim=2)  # [B, T]
        codes = (loudness * 10).round().long().clamp(max=7)[..., None]
        return AcousticTokens(codes=codes, lengths=-(-audio.lengths // 320))

    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        wave = torch.tensor([1.0, -1.0]).repeat(160)  # [320]
        samples = (tokens.codes[:, :, 0, None] / 10 * wave).flatten(1)[:, None]
        return AudioBatch(samples=samples, lengths=tokens.lengths * 320)

    def codebooks(self) -> torch.Tensor:
        return (torch.arange(8) / 10)[None, :, None]


class NumberSystem(System):
    """Sound that is a constant, one number an utterance; None is a row that cannot be had."""

    def __init__(
        self,
        name: str,
        values: Mapping[str, float | None],
        prompts: Mapping[str, float] | None = None,
    ) -> None:
        self.name, self.ids = name, values.keys()
        self._values, self._prompts = values, prompts or {}
        self.loads = 0
        self.play = self._play

    def key(self, row_id: str) -> list[object]:
        return [self._values[row_id]]

    def parcel(self, row_id: str) -> float | None:
        return self._values[row_id]

    def _play(self, value: float | None) -> NDArray[np.float32]:
        self.loads += 1
        if value is None:
            raise RowFailure("it is broken")
        return np.full(16_000, value, dtype=np.float32)

    def prompt_seconds(self, row_id: str) -> float | None:
        return self._prompts.get(row_id)


@pytest.fixture(scope="session")
def make_system() -> MakeSystem:
    """`make_system(name, values_by_id, prompts_by_id)`."""
    return NumberSystem


@pytest.fixture(scope="session")
def tone_codec() -> Codec:
    return ToneCodec()


@pytest.fixture(scope="session")
def semantic_spec() -> TokenSpec:
    return TokenSpec(
        kind="semantic", name="toy", fingerprint="a" * 64, frame_rate=Fraction(25), codebook_size=5
    )


@pytest.fixture
def write_tokens(tmp_path: Path, tone_codec: Codec, semantic_spec: TokenSpec) -> WriteTokens:
    """`write_tokens(rows, name="tokens", stage="tokenize-acoustic")`: a folder of one shard."""

    def write(
        rows: Sequence[Row],
        *,
        name: str = "tokens",
        stage: str = "tokenize-acoustic",
        acoustic: TokenSpec | None = None,
    ) -> Path:
        acoustic = acoustic or tone_codec.spec
        records = [
            StageRecord(stage=maker, version="0", settings={}, tokens=spec)
            for maker, spec in (("tokenize-semantic", semantic_spec), (stage, acoustic))
        ]
        fields = [ID, AUDIO, SPEAKER, TEXT, SEMANTIC, acoustic_field(acoustic.levels)]
        if any("prompt_frames" in row for row in rows):
            fields.append(PROMPT_FRAMES)
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "part-00000-of-00001.parquet"
        write_shard(path, [rows], pa.schema(fields), Provenance(tuple(records)))
        return folder

    return write


@pytest.fixture
def token_rows() -> list[Row]:
    """Three rows of two speakers, with texts, half a second and more each."""
    random = np.random.default_rng(0)
    return [
        {
            "id": f"u{index}",
            "speaker": f"s{index % 2}",
            "text": f"utterance {index}",
            "semantic": random.integers(0, 5, frames // 2).astype(np.uint16),
            "acoustic": random.integers(0, 8, (frames, 1)).astype(np.uint16),
        }
        for index, frames in enumerate((30, 44, 58))
    ]


@pytest.fixture
def model_folder(tmp_path: Path, tone_codec: Codec, semantic_spec: TokenSpec) -> Path:
    """An untrained SoundStorm for `write_tokens`'s tokens."""
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=1, codebook_size=8, semantic_codebook_size=5, layers=1, heads=2, width=16,
        feed_forward=32, dropout=0.0,
    )  # fmt: skip
    folder = tmp_path / "model"
    to_model_file(
        folder,
        config=config,
        weights=SoundStorm(config).state_dict(),
        semantic=semantic_spec,
        acoustic=tone_codec.spec,
    )
    return folder
