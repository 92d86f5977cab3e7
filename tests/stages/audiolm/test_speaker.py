"""`generate-semantic`: what it continues, what it keeps, and what a decoder makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stages.audiolm.acoustic import AcousticOptions
from stages.audiolm.decoder import AudioLMDecoder
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.sampling import Sampling
from stages.audiolm.speaker import Speaker, SpeakOptions
from stages.errors import DataMismatch, RowFailure
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import Row
from stages.shards.spec import TokenSpec
from stages.soundstorm.prompt import OwnPrompt

Specs = tuple[TokenSpec, TokenSpec]
SECONDS = Fraction(6, 5)  # 30 tokens; chunks have 20, 10 of them the last one's


def provenance(specs: tuple[TokenSpec, ...]) -> Provenance:
    records = [StageRecord(stage="s", version="0", settings={}, tokens=spec) for spec in specs]
    return Provenance(tuple(records))


@pytest.fixture
def make_speaker(
    make_stage: Callable[..., StageModel[Any]], specs: Specs
) -> Callable[..., Speaker]:
    def make(batch_seconds: float = 0.0, **options: Any) -> Speaker:
        chosen = SpeakOptions(**{"seconds": SECONDS, **options})
        stage = Speaker(make_stage("semantic"), chosen, where="m", batch_seconds=batch_seconds)
        stage.check(provenance(specs), "in")
        return stage

    return make


def make_row(name: str, semantic: int, acoustic: int | None) -> Row:
    random = np.random.default_rng(semantic)
    row: Row = {"id": name, "semantic": random.integers(0, 7, semantic).astype(np.uint16)}
    if acoustic is not None:
        row["acoustic"] = random.integers(0, 11, (acoustic, 5)).astype(np.uint16)
    return row


def run(stage: Speaker, rows: list[Row]) -> list[dict[str, Any] | RowFailure]:
    results = dict(stage.process(rows))
    return [results[index] for index in range(len(rows))]


def good(result: dict[str, Any] | RowFailure) -> dict[str, Any]:
    assert not isinstance(result, RowFailure), result
    return result


def test_goes_on_after_what_there_is(make_speaker: Callable[..., Speaker]) -> None:
    row = make_row("a", 13, 27) | {"text": "what was said"}
    result = good(run(make_speaker(), [row])[0])
    assert result["text"] is None
    assert len(result["semantic"]) == 43
    assert result["semantic"].dtype == np.uint16
    assert np.array_equal(result["semantic"][:13], row["semantic"])
    assert int(result["semantic"].max()) < 7
    # 26 acoustic frames have their centre in 13 semantic ones; the 27th is not of what follows
    assert np.array_equal(result["acoustic"], row["acoustic"][:26])
    assert result["prompt_frames"] == 26


def test_goes_on_after_itself(make_speaker: Callable[..., Speaker]) -> None:
    """Its own rows have more semantic than acoustic tokens, and say so."""
    row = make_row("a", 13, 27)
    first = row | good(run(make_speaker(), [row])[0])
    second = good(run(make_speaker(), [first])[0])
    assert len(second["semantic"]) == 73
    assert np.array_equal(second["semantic"][:43], first["semantic"])
    assert np.array_equal(second["acoustic"], row["acoustic"][:26])
    assert second["prompt_frames"] == 26
    cut = good(run(make_speaker(prompt_seconds=Fraction(1, 5)), [first])[0])
    assert np.array_equal(cut["acoustic"], row["acoustic"][:10])
    assert cut["prompt_frames"] == 10
    (failure,) = run(make_speaker(), [first | {"prompt_frames": 10}])
    assert "not of one utterance" in str(failure)


def test_a_shorter_prompt(make_speaker: Callable[..., Speaker]) -> None:
    row = make_row("a", 13, 25)
    result = good(run(make_speaker(prompt_seconds=Fraction(1, 5)), [row])[0])
    assert len(result["semantic"]) == 5 + 30
    assert np.array_equal(result["semantic"][:5], row["semantic"][:5])
    assert np.array_equal(result["acoustic"], row["acoustic"][:10])
    assert result["prompt_frames"] == 10


def test_rows_without_acoustic_tokens(make_speaker: Callable[..., Speaker]) -> None:
    result = good(run(make_speaker(), [make_row("a", 13, None)])[0])
    assert result["prompt_frames"] == 0
    assert "acoustic" not in result


def test_speaks_freely(make_speaker: Callable[..., Speaker], specs: Specs) -> None:
    stage = make_speaker(free=True)
    stage.check(Provenance(), "nothing")
    assert stage.required == ()
    assert stage.tokens == specs[0]
    first, second = map(good, run(stage, [{"id": "a"}, {"id": "b"}]))
    assert len(first["semantic"]) == len(second["semantic"]) == 30
    assert not np.array_equal(first["semantic"], second["semantic"])
    assert first["prompt_frames"] == 0


def test_a_decoder_continues_the_sound_to_the_end_of_the_words(
    make_speaker: Callable[..., Speaker], acoustic_model: AcousticModel, specs: Specs
) -> None:
    rows = [make_row("a", 13, 27), make_row("b", 13, 25)]
    spoken = [
        row | good(result) for row, result in zip(rows, run(make_speaker(), rows), strict=True)
    ]
    decoder = AudioLMDecoder(
        acoustic_model, AcousticOptions(), where="c", prompt=OwnPrompt(seconds=Fraction(1, 5))
    )
    decoder.check(provenance(specs), "in")
    for index, result in decoder.process(spoken):
        made = good(result)  # type: ignore[arg-type]
        assert made["acoustic"].shape == (2 * 43, 5)
        assert made["prompt_frames"] == 10
        assert np.array_equal(made["acoustic"][:10], rows[index]["acoustic"][:10])


@pytest.mark.parametrize("until_end", [False, True])
def test_batches_change_nothing(make_speaker: Callable[..., Speaker], until_end: bool) -> None:
    rows = [make_row(f"r{n}", n, None) for n in (20, 4, 33, 8, 21)]
    alone = run(make_speaker(until_end=until_end), rows)
    batched = run(make_speaker(batch_seconds=9.0, until_end=until_end), rows)
    for first, second in zip(alone, batched, strict=True):
        assert np.array_equal(good(first)["semantic"], good(second)["semantic"])


def test_until_the_end(make_speaker: Callable[..., Speaker]) -> None:
    """Of many, some end early, none goes on for longer, and no end is left in the tokens."""
    rows: list[Row] = [{"id": f"r{n}"} for n in range(30)]
    results = run(make_speaker(batch_seconds=99.0, free=True, until_end=True), rows)
    spoken = [result for result in results if not isinstance(result, RowFailure)]
    lengths = {len(result["semantic"]) for result in spoken}
    assert min(lengths) < max(lengths) <= 30
    assert all(int(result["semantic"].max()) < 7 for result in spoken)
    for result in results:
        if isinstance(result, RowFailure):
            assert "before its first token" in str(result)


def test_seeds(make_speaker: Callable[..., Speaker]) -> None:
    row = make_row("a", 13, None)
    (first,), (same,) = run(make_speaker(), [row]), run(make_speaker(), [row])
    (other,) = run(make_speaker(seed=1), [row])
    assert np.array_equal(good(first)["semantic"], good(same)["semantic"])
    assert not np.array_equal(good(first)["semantic"], good(other)["semantic"])
    greedy = [
        run(make_speaker(seed=seed, sampling=Sampling(temperature=0.0)), [row])[0]
        for seed in (0, 1)
    ]
    assert np.array_equal(*[good(result)["semantic"] for result in greedy])


def test_rows_that_cannot_be_continued_fail_alone(make_speaker: Callable[..., Speaker]) -> None:
    empty = {"id": "b", "semantic": np.empty(0, np.uint16)}
    results = run(make_speaker(), [make_row("a", 9, None), empty, make_row("c", 9, 60)])
    assert len(good(results[0])["semantic"]) == 39
    assert "no semantic tokens to continue" in str(results[1])
    assert "not of one utterance" in str(results[2])


def test_refuses_tokens_of_others(make_speaker: Callable[..., Speaker], specs: Specs) -> None:
    stage = make_speaker()
    for wrong, sentence in (
        ((), "has no semantic tokens"),
        ((replace(specs[0], fingerprint="d" * 64),), "maker"),
    ):
        with pytest.raises(DataMismatch, match=sentence):
            stage.check(provenance(wrong), "in")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seconds": Fraction(0)}, "nothing to generate"),
        ({"seconds": Fraction(1, 100)}, "not one semantic token"),
        ({"prompt_seconds": Fraction(0)}, "is none"),
        ({"prompt_seconds": Fraction(1), "free": True}, "has no prompt"),
    ],
)
def test_option_refusals(
    make_speaker: Callable[..., Speaker], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        make_speaker(**options)
