"""The decode stage: rates, prompts, voices, refusals, and neighbours that fail alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stages.errors import DataMismatch, RowFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import Row
from stages.shards.spec import TokenSpec
from stages.soundstorm.decoder import Decoder
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, DecodeTrace, decode
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.prompt import OwnPrompt, Prompt, voice_prompt
from stages.soundstorm.trace import TraceFile

SEMANTIC = TokenSpec(
    kind="semantic", name="km", fingerprint="a" * 64, frame_rate=Fraction(50), codebook_size=7
)
ACOUSTIC = TokenSpec(
    kind="acoustic", name="codec", fingerprint="b" * 64, frame_rate=Fraction(75),
    codebook_size=11, levels=4,
)  # fmt: skip
OPTIONS = DecodeOptions(iterations=(4, 1, 1))


@pytest.fixture
def model(network: SoundStorm) -> SoundStormModel:
    return SoundStormModel(
        network=network, semantic=SEMANTIC, acoustic=ACOUSTIC, fingerprint="c" * 64
    )


def make_row(name: str, semantic: int, acoustic: int | None, levels: int = 4) -> Row:
    random = np.random.default_rng(semantic)
    row: Row = {"id": name, "semantic": random.integers(0, 7, semantic).astype(np.uint16)}
    if acoustic is not None:
        row["acoustic"] = random.integers(0, 11, (acoustic, levels)).astype(np.uint16)
    return row


def provenance(*specs: TokenSpec) -> Provenance:
    return Provenance(
        tuple(
            StageRecord(stage=f"tokenize-{spec.kind}", version="0", settings={}, tokens=spec)
            for spec in specs
        )
    )


def run(stage: Decoder, rows: list[Row]) -> list[dict[str, Any] | RowFailure]:
    results = dict(stage.process(rows))
    assert sorted(results) == list(range(len(rows)))
    return [results[index] for index in range(len(rows))]


def good(result: dict[str, Any] | RowFailure) -> dict[str, Any]:
    assert not isinstance(result, RowFailure), result
    return result


def make_stage(model: SoundStormModel, prompt: Prompt | None = None, **more: Any) -> Decoder:
    return Decoder(model, OPTIONS, where="runs/a", prompt=prompt, **more)


def test_condition_is_aligned_exactly(model: SoundStormModel) -> None:
    row = make_row("a", 20, 30)
    result = good(run(make_stage(model), [row])[0])
    aligned = align_semantic(row["semantic"], Fraction(50), 30, Fraction(75))
    request = DecodeRequest(
        row_id="a",
        semantic=torch.from_numpy(aligned),
        prompt=torch.empty(0, 3, dtype=torch.long),
    )
    (expected,) = decode(model.network, [request], OPTIONS)
    assert np.array_equal(result["acoustic"], expected.acoustic.numpy())
    assert result["acoustic"].dtype == np.uint16
    assert result["prompt_frames"] == 0


@pytest.mark.parametrize(
    ("semantic", "acoustic", "frames"), [(20, None, 30), (5, None, 7), (1, None, 1), (20, 31, 31)]
)
def test_lengths(model: SoundStormModel, semantic: int, acoustic: int | None, frames: int) -> None:
    """As the acoustic tokens are, or else as many as have their centre in the semantic ones."""
    result = good(run(make_stage(model), [make_row("a", semantic, acoustic)])[0])
    assert result["acoustic"].shape == (frames, 3)


def test_own_prompt_comes_out_as_it_was(model: SoundStormModel) -> None:
    row = make_row("a", 20, 30)
    result = good(run(make_stage(model, OwnPrompt(seconds=Fraction(1, 5))), [row])[0])
    assert result["prompt_frames"] == 15
    assert np.array_equal(result["acoustic"][:15], row["acoustic"][:15, :3])
    assert not np.array_equal(result["acoustic"][15:], row["acoustic"][15:, :3])


def test_rows_that_do_not_fit_fail_alone(model: SoundStormModel) -> None:
    past_semantic, past_acoustic = make_row("s", 20, 30), make_row("q", 20, 30)
    past_semantic["semantic"][3] = 7
    past_acoustic["acoustic"][3, 1] = 11
    rows = [
        make_row("good", 20, 30),
        make_row("long", 20, 40),
        make_row("short", 10, 15),
        make_row("none", 20, None),
        past_semantic,
        past_acoustic,
        {"id": "empty", "semantic": np.empty(0, np.uint16), "acoustic": rows_of(0)},
        {"id": "null", "semantic": None, "acoustic": rows_of(10)},
    ]
    results = run(make_stage(model, OwnPrompt(seconds=Fraction(1, 5))), rows)
    assert good(results[0])["prompt_frames"] == 15
    for result, sentence in zip(
        results[1:],
        ["not of one utterance", "no longer than the prompt", "no acoustic tokens",
         "semantic token is outside", "acoustic token is outside", "no semantic tokens",
         "no semantic tokens"],
        strict=True,
    ):  # fmt: skip
        assert isinstance(result, RowFailure)
        assert sentence in str(result)


def test_rows_to_be_continued_last_as_long_as_their_words(model: SoundStormModel) -> None:
    """Only where `prompt_frames` says that all the acoustic tokens are given."""
    row = make_row("a", 40, 24)
    stage = make_stage(model, OwnPrompt(seconds=Fraction(1, 5)))
    result = good(run(stage, [row | {"prompt_frames": 24}])[0])
    assert result["acoustic"].shape == (60, 3)
    assert result["prompt_frames"] == 15
    assert np.array_equal(result["acoustic"][:15], row["acoustic"][:15, :3])
    for other in (row, row | {"prompt_frames": 15}):
        (failure,) = run(stage, [other])
        assert "not of one utterance" in str(failure)


def rows_of(frames: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.zeros((frames, 4), dtype=np.uint16)


def test_batches_change_nothing(model: SoundStormModel) -> None:
    rows = [make_row(f"r{n}", n, None) for n in (20, 4, 33, 8, 21)]
    alone = run(make_stage(model), rows)
    batched = run(make_stage(model, batch_seconds=2.0), rows)
    for first, second in zip(alone, batched, strict=True):
        assert np.array_equal(good(first)["acoustic"], good(second)["acoustic"])


@pytest.mark.parametrize("keep", [False, True])
def test_voice_goes_in_front(model: SoundStormModel, keep: bool) -> None:
    voice = make_row("voice", 21, 32)
    prompt = voice_prompt(model, voice, seconds=None, keep=keep, where="voice.wav")
    assert len(prompt.semantic) == 20  # 21 semantic frames do not end where an acoustic one does
    assert prompt.acoustic.shape == (30, 3)
    row = make_row("a", 10, None)
    stage = make_stage(model, prompt)
    result = good(run(stage, [row])[0])
    aligned = align_semantic(row["semantic"], Fraction(50), 15, Fraction(75))
    request = DecodeRequest(
        row_id="a",
        semantic=torch.from_numpy(np.concatenate((prompt.aligned, aligned))),
        prompt=torch.from_numpy(prompt.acoustic),
    )
    (expected,) = decode(model.network, [request], OPTIONS)
    names = [field.name for field in stage.fields]
    if keep:
        assert np.array_equal(result["acoustic"], expected.acoustic.numpy())
        assert result["prompt_frames"] == 30
        assert np.array_equal(result["semantic"][:20], prompt.semantic)
        assert np.array_equal(result["semantic"][20:], row["semantic"])
        assert "semantic" in names
        align_semantic(result["semantic"], Fraction(50), 45, Fraction(75), tolerance=0)
    else:
        assert np.array_equal(result["acoustic"], expected.acoustic.numpy()[30:])
        assert result["prompt_frames"] == 0
        assert "semantic" not in result


def test_voice_is_cut_to_its_seconds(model: SoundStormModel) -> None:
    voice = make_row("voice", 50, 75)
    prompt = voice_prompt(model, voice, seconds=Fraction(1, 2), keep=False, where="voice.wav")
    assert len(prompt.acoustic) == 36  # 37.5 frames, down to whole frames of both kinds
    assert len(prompt.semantic) == 24


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (make_row("a", 20, None), "needs both"),
        (make_row("a", 20, 30, levels=2), "2 levels"),
        (make_row("a", 20, 60), "not of one utterance"),
        (make_row("a", 1, 1), "too short"),
    ],
)
def test_voice_refusals(model: SoundStormModel, row: Row, sentence: str) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        voice_prompt(model, row, seconds=None, keep=False, where="voice.wav")


def test_says_whether_a_voice_or_its_seconds_are_too_short(model: SoundStormModel) -> None:
    """At 50 and 75 Hz whole frames of both kinds end every 0.04 s."""
    for voice, sentence in (
        (
            make_row("a", 50, 75),
            "^--prompt-seconds 0.03 is too short: .* one whole frame, of 0.04 s$",
        ),
        (make_row("a", 1, 1), "^voice.wav is too short"),
    ):
        with pytest.raises(DataMismatch, match=sentence):
            voice_prompt(model, voice, seconds=Fraction("0.03"), keep=False, where="voice.wav")


def test_refuses_tokens_of_others(model: SoundStormModel) -> None:
    plain, prompted = make_stage(model), make_stage(model, OwnPrompt(seconds=Fraction(1)))
    plain.check(provenance(SEMANTIC), "in")
    prompted.check(provenance(SEMANTIC, ACOUSTIC), "in")
    others: list[tuple[Decoder, list[TokenSpec], str]] = [
        (plain, [], "has no semantic tokens"),
        (plain, [replace(SEMANTIC, fingerprint="d" * 64)], "maker"),
        (plain, [replace(SEMANTIC, frame_rate=Fraction(25))], "frame rate"),
        (plain, [SEMANTIC, replace(ACOUSTIC, fingerprint="d" * 64)], "acoustic.*maker"),
        (prompted, [SEMANTIC], "has no acoustic tokens"),
        (prompted, [SEMANTIC, replace(ACOUSTIC, levels=2)], "2 levels"),
    ]
    for stage, specs, sentence in others:
        with pytest.raises(DataMismatch, match=sentence):
            stage.check(provenance(*specs), "in")


def test_says_what_it_makes(model: SoundStormModel) -> None:
    stage = Decoder(model, DecodeOptions(iterations=(4, 1)), where="runs/a")
    assert stage.tokens == replace(ACOUSTIC, levels=2)
    assert [field.name for field in stage.fields] == ["acoustic", "prompt_frames"]
    assert good(run(stage, [make_row("a", 20, None)])[0])["acoustic"].shape == (30, 2)


def test_trace_file(model: SoundStormModel, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    rows = [make_row("a", 20, 30), make_row("b", 24, 36)]
    with TraceFile(path, levels=3) as trace:
        run(make_stage(model, OwnPrompt(seconds=Fraction(1, 5)), trace=trace), rows)
        assert not path.exists()
    table = pq.read_table(path).to_pylist()
    assert [row["id"] for row in table] == ["a", "b"]
    for row, frames in zip(table, (30, 36), strict=True):
        passes, confidence = np.array(row["passes"]), np.array(row["confidence"])
        assert passes.shape == confidence.shape == (frames, 3)
        assert not passes[:15].any()
        assert np.isnan(confidence[:15]).all()
        assert set(passes[15:, 0]) == {1, 2, 3, 4}
        assert set(passes[15:, 1]) == {5}
        assert set(passes[15:, 2]) == {6}
        assert np.isfinite(confidence[15:]).all()


def test_trace_file_writes_many_utterances_at_once(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    with TraceFile(path, levels=2) as trace:
        for row in range(300):
            passes = torch.full((row % 3, 2), 40_000 + row)  # more than 16 bits hold
            trace.add(f"r{row}", DecodeTrace(passes=passes, confidence=passes.float()))
    assert pq.read_metadata(path).num_row_groups == 2
    table = pq.read_table(path).to_pylist()
    assert [row["id"] for row in table] == [f"r{row}" for row in range(300)]
    for row, line in enumerate(table):
        assert line["passes"] == line["confidence"] == [[40_000 + row] * 2] * (row % 3)
