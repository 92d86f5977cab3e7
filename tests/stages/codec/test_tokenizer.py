"""The stage that adds acoustic tokens: what it adds, and which rows it refuses alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.audio.reading import read_audio
from stages.codec.registry import load_codec
from stages.codec.single import encode_samples, reconstruct
from stages.codec.tokenizer import AcousticTokenizer
from stages.errors import RowFailure
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import AUDIO, ID, PROMPT_FRAMES, Row
from stages.shards.runner import run_row_stage
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard

SEMANTIC = TokenSpec(
    kind="semantic", name="s", fingerprint="s", frame_rate=Fraction(25), codebook_size=8
)
WITH_SEMANTIC = Provenance(
    (StageRecord(stage="tokenize-semantic", version="0", settings={}, tokens=SEMANTIC),)
)


@pytest.fixture(scope="module")
def stage(tiny_codec: Path) -> AcousticTokenizer:
    return AcousticTokenizer(load_codec(str(tiny_codec)), workers=0)


def rows_of(corpus: Path) -> list[Row]:
    files = sorted(path for path in corpus.rglob("*") if path.suffix in (".wav", ".flac", ".ogg"))
    return [{"id": path.stem, "audio": str(path)} for path in files]


def test_each_row_gets_its_tokens_and_its_sources_length(
    stage: AcousticTokenizer, corpus: Path, tiny_codec: Path
) -> None:
    codec, rows = load_codec(str(tiny_codec)), rows_of(corpus)
    results = dict(stage.process(rows))
    assert sorted(results) == list(range(len(rows)))
    for index, values in results.items():
        assert not isinstance(values, RowFailure)
        waveform = read_audio(rows[index]["audio"], sample_rate=16_000, channels=1)
        expected = encode_samples(codec, waveform.samples)
        np.testing.assert_array_equal(values["acoustic"], expected)
        assert values["acoustic"].dtype == np.uint16
        assert values["acoustic"].shape == (-(-waveform.samples.shape[1] // 320), 3)
        assert values["num_samples"] == waveform.source_samples
        assert values["sample_rate"] == waveform.source_rate


def test_a_bad_row_fails_alone(stage: AcousticTokenizer, corpus: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    good = rows_of(corpus)[0]
    rows: list[Row] = [
        {"id": "null", "audio": None},
        {"id": "gone", "audio": str(tmp_path / "gone.wav")},
        {"id": "empty", "audio": str(empty)},
        good,
    ]
    results = dict(stage.process(rows))
    assert [isinstance(results[index], RowFailure) for index in range(4)] == [True] * 3 + [False]
    assert "no audio" in str(results[0])
    assert all("\n" not in str(results[index]) for index in range(3))


def test_semantic_tokens_must_be_as_long(
    tiny_codec: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = AcousticTokenizer(load_codec(str(tiny_codec)), workers=0)
    stage.check(WITH_SEMANTIC, "here")
    row = rows_of(corpus)[0]  # 0.8 s: 40 acoustic frames, 20 semantic ones
    lengths = (20, 19, 12, 30, 0)
    rows = [row | {"semantic": np.zeros(length, np.uint16)} for length in lengths]
    rows.append(row | {"semantic": None})
    results = dict(stage.process(rows))
    failed = [isinstance(results[index], RowFailure) for index in range(6)]
    assert failed == [False, False, True, True, True, False]
    assert "not of one utterance" in str(results[2])


def test_tokens_of_a_recording_have_no_prompt(
    stage: AcousticTokenizer, corpus: Path, tmp_path: Path
) -> None:
    """As `eval` reads `prompt_frames` of what `decode` made, where that is tokenized anew."""
    decoded, plain = tmp_path / "decoded.parquet", tmp_path / "plain.parquet"
    row = rows_of(corpus)[0]
    schema = pa.schema([ID, AUDIO, PROMPT_FRAMES])
    write_shard(decoded, [[row | {"prompt_frames": 25}]], schema, Provenance())
    write_shard(plain, [[row]], pa.schema([ID, AUDIO]), Provenance())
    for path in (decoded, plain):
        with open_rows(path) as source:
            run_row_stage(stage, source, output=str(tmp_path / "out.parquet"), force=True)
        with open_rows(tmp_path / "out.parquet") as source:
            assert ("prompt_frames" in source.schema.names) == (path == decoded)
            (after,) = source.rows()
        assert after.get("prompt_frames") is None
        assert len(after["acoustic"]) == 40


def test_provenance_says_what_the_tokens_are(stage: AcousticTokenizer, tiny_codec: Path) -> None:
    codec = load_codec(str(tiny_codec))
    assert stage.tokens == codec.spec
    assert stage.record().models == codec.models
    fewer = AcousticTokenizer(load_codec(str(tiny_codec), levels=2), workers=0)
    assert (
        fewer.record(input_fingerprint="x").fingerprint
        != stage.record(input_fingerprint="x").fingerprint
    )


def test_reconstruction_is_as_long_as_its_source(
    tiny_codec: Path, make_speech: Callable[..., Any]
) -> None:
    speech = make_speech(0.333)[None]
    heard = reconstruct(load_codec(str(tiny_codec)), speech)
    assert heard.shape == speech.shape
    assert np.isfinite(heard).all()
    with pytest.raises(RowFailure, match="no samples"):
        reconstruct(load_codec(str(tiny_codec)), speech[:, :0])
