"""`decode` by AudioLM: the same rows, prompts and refusals as by SoundStorm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.decoder import AudioLMDecoder
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.sampling import Sampling
from stages.errors import DataMismatch, RowFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import Row
from stages.shards.spec import TokenSpec
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoder import Decoder
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.network import SoundStorm
from stages.soundstorm.prompt import OwnPrompt, Prompt, voice_prompt
from stages.soundstorm.row_decoder import RowDecoder

Specs = tuple[TokenSpec, TokenSpec]


def make_row(name: str, semantic: int, acoustic: int | None) -> Row:
    random = np.random.default_rng(semantic)
    row: Row = {"id": name, "semantic": random.integers(0, 7, semantic).astype(np.uint16)}
    if acoustic is not None:
        row["acoustic"] = random.integers(0, 11, (acoustic, 5)).astype(np.uint16)
    return row


def run(stage: RowDecoder, rows: list[Row]) -> list[dict[str, Any] | RowFailure]:
    results = dict(stage.process(rows))
    return [results[index] for index in range(len(rows))]


def good(result: dict[str, Any] | RowFailure) -> dict[str, Any]:
    assert not isinstance(result, RowFailure), result
    return result


@pytest.fixture
def make_decoder(acoustic_model: AcousticModel) -> Callable[..., AudioLMDecoder]:
    def make(prompt: Prompt | None = None, **more: Any) -> AudioLMDecoder:
        return AudioLMDecoder(acoustic_model, AcousticOptions(), where="c", prompt=prompt, **more)

    return make


@pytest.fixture
def soundstorm(specs: Specs) -> SoundStormModel:
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=5, codebook_size=11, semantic_codebook_size=7, layers=1, heads=2, width=16,
        feed_forward=16,
    )  # fmt: skip
    semantic, acoustic = specs
    return SoundStormModel(
        network=SoundStorm(config).eval(), semantic=semantic, acoustic=acoustic,
        fingerprint="e" * 64,
    )  # fmt: skip


def test_makes_what_the_generator_makes(
    acoustic_model: AcousticModel, make_decoder: Callable[..., AudioLMDecoder]
) -> None:
    row = make_row("a", 21, 43)
    result = good(run(make_decoder(), [row])[0])
    aligned = align_semantic(row["semantic"], Fraction(25), 43, Fraction(50))
    request = DecodeRequest(
        row_id="a",
        semantic=torch.from_numpy(aligned),
        prompt=torch.empty(0, 5, dtype=torch.long),
    )
    (expected,) = generate_acoustic(acoustic_model, [request], AcousticOptions())
    assert np.array_equal(result["acoustic"], expected.numpy())
    assert result["acoustic"].dtype == np.uint16
    assert result["prompt_frames"] == 0


@pytest.mark.parametrize("keep", [None, False, True])
@pytest.mark.parametrize("own", [False, True])
def test_differs_from_soundstorm_in_nothing_else(
    soundstorm: SoundStormModel,
    acoustic_model: AcousticModel,
    keep: bool | None,
    own: bool,
    specs: Specs,
) -> None:
    """Columns, lengths, prompts, failures and refusals."""
    prompts: list[Prompt | None] = [None, None]
    if keep is not None:
        voice = make_row("voice", 8, 15)
        prompts = [
            voice_prompt(model, voice, seconds=None, keep=keep, where="v")
            for model in (soundstorm, acoustic_model)
        ]
    elif own:
        prompts = [OwnPrompt(seconds=Fraction(1, 5))] * 2
    theirs = Decoder(soundstorm, DecodeOptions(iterations=(1,) * 5), where="m", prompt=prompts[0])
    ours = AudioLMDecoder(acoustic_model, AcousticOptions(), where="m", prompt=prompts[1])
    rows = [make_row("a", 21, 43), make_row("b", 10, None), make_row("c", 10, 60),
            {"id": "d", "semantic": None, "acoustic": None}]  # fmt: skip
    rows.append(make_row("e", 30, 20) | {"prompt_frames": 20})
    assert ours.fields == theirs.fields
    assert ours.required == theirs.required
    assert ours.tokens == theirs.tokens
    for one, other in zip(run(ours, rows), run(theirs, rows), strict=True):
        if isinstance(other, RowFailure):
            assert str(one) == str(other)
            continue
        assert good(one).keys() == other.keys()
        assert one["acoustic"].shape == other["acoustic"].shape  # type: ignore[index]
        given = one["prompt_frames"]  # type: ignore[index]
        assert given == other["prompt_frames"]
        assert np.array_equal(one["acoustic"][:given], other["acoustic"][:given])  # type: ignore[index]
    for wrong in ((), (specs[0], replace(specs[1], fingerprint="d" * 64)),
                  (replace(specs[0], codebook_size=8),)):  # fmt: skip
        records = [StageRecord(stage="s", version="0", settings={}, tokens=spec) for spec in wrong]
        provenance, sentences = Provenance(tuple(records)), []
        for stage in (ours, theirs):
            with pytest.raises(DataMismatch) as refusal:
                stage.check(provenance, "in")
            sentences.append(str(refusal.value))
        assert sentences[0] == sentences[1]


def test_a_row_that_is_to_be_continued(make_decoder: Callable[..., AudioLMDecoder]) -> None:
    """Its acoustic tokens are its beginning, its semantic tokens all of it."""
    stage = make_decoder(OwnPrompt(seconds=Fraction(1, 5)))
    row = make_row("a", 40, 24) | {"prompt_frames": 24}
    result = good(run(stage, [row])[0])
    assert result["acoustic"].shape == (80, 5)
    assert result["prompt_frames"] == 10
    assert np.array_equal(result["acoustic"][:10], row["acoustic"][:10])
    short = make_row("b", 40, 7) | {"prompt_frames": 7}
    assert good(run(stage, [short])[0])["prompt_frames"] == 7, "all there is"
    assert good(run(make_decoder(), [row])[0])["prompt_frames"] == 0
    for unlike in ({}, {"prompt_frames": None}, {"prompt_frames": 10}):
        (failure,) = run(stage, [make_row("c", 40, 24) | unlike])
        assert "not of one utterance" in str(failure)
    (failure,) = run(stage, [make_row("d", 4, 24) | {"prompt_frames": 24}])
    assert "nothing is left to generate" in str(failure)
    (failure,) = run(stage, [make_row("e", 4, 0) | {"prompt_frames": 0}])
    assert "no acoustic tokens" in str(failure)


def test_batches_change_nothing(make_decoder: Callable[..., AudioLMDecoder]) -> None:
    rows = [make_row(f"r{n}", n, None) for n in (20, 4, 33, 8, 21)]
    alone, batched = run(make_decoder(), rows), run(make_decoder(batch_seconds=4.0), rows)
    for first, second in zip(alone, batched, strict=True):
        assert np.array_equal(good(first)["acoustic"], good(second)["acoustic"])


def test_fewer_levels_are_the_coarse_ones_of_all(
    make_decoder: Callable[..., AudioLMDecoder],
    acoustic_model: AcousticModel,
    make_stage: Callable[..., StageModel[Any]],
) -> None:
    row = make_row("a", 21, None)
    whole = good(run(make_decoder(), [row])[0])["acoustic"]
    for levels in (1, 4):
        stage = make_decoder(levels=levels)
        assert stage.tokens is not None
        assert stage.tokens.levels == levels
        assert np.array_equal(good(run(stage, [row])[0])["acoustic"], whole[:, :levels])
    bare = AudioLMDecoder(AcousticModel(coarse=make_stage("coarse")), AcousticOptions(), where="c")
    assert np.array_equal(good(run(bare, [row])[0])["acoustic"], whole[:, :2])
    assert set(bare.models) == {"audiolm-coarse"}


def test_says_what_changes_a_result(acoustic_model: AcousticModel) -> None:
    cool = AcousticOptions(coarse=Sampling(temperature=0.5))
    stages = [
        AudioLMDecoder(acoustic_model, options, where="c")
        for options in (AcousticOptions(), AcousticOptions(seed=1), cool)
    ]
    assert len({str(stage.settings) for stage in stages}) == 3
    assert set(stages[0].models) == {"audiolm-coarse", "audiolm-fine"}
