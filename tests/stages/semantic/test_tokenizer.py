"""The stage as a whole: rows with audio in, rows with tokens or a reason out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stages.audio.sources import find_utterances
from stages.errors import DataMismatch, RowFailure
from stages.semantic.clustering import ClusteringConfig, fit_kmeans
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.kmeans import EncoderChoice, KMeans
from stages.semantic.tokenizer import SemanticTokenizer


@pytest.fixture(scope="module")
def rows(corpus: Path) -> list[dict[str, Any]]:
    return find_utterances([str(corpus)])


@pytest.fixture(scope="module")
def kmeans(rows: list[dict[str, Any]]) -> KMeans:
    choice = EncoderChoice(spec="logmel")
    config = ClusteringConfig(clusters=16, iterations=5)
    return fit_kmeans(load_encoder("logmel"), choice, rows, config).kmeans


def tokenize(kmeans: KMeans, rows: list[dict[str, Any]], **options: Any) -> dict[int, Any]:
    stage = SemanticTokenizer(load_encoder("logmel"), kmeans, **options)
    return dict(stage.process(rows))


def test_tokens_and_source_lengths(kmeans: KMeans, rows: list[dict[str, Any]]) -> None:
    results = tokenize(kmeans, rows)
    assert sorted(results) == list(range(len(rows)))
    for index, row in enumerate(rows):
        info = soundfile.info(row["audio"])
        assert results[index]["sample_rate"] == info.samplerate
        assert results[index]["num_samples"] == info.frames
        tokens = results[index]["semantic"]
        assert tokens.dtype == np.uint16
        assert tokens.max() < 16
        assert len(tokens) == pytest.approx(50 * info.duration, abs=1)
    assert len({tuple(result["semantic"]) for result in results.values()}) == len(rows)


def test_a_row_alone_is_the_row_among_others(kmeans: KMeans, rows: list[dict[str, Any]]) -> None:
    together = tokenize(kmeans, rows)
    for index, row in enumerate(rows):
        alone = tokenize(kmeans, [row])[0]
        np.testing.assert_array_equal(alone["semantic"], together[index]["semantic"])


def test_padded_batches_give_the_same_tokens(kmeans: KMeans, rows: list[dict[str, Any]]) -> None:
    alone = tokenize(kmeans, rows)
    batched = tokenize(kmeans, rows, batch_seconds=4.0)
    assert sorted(batched) == sorted(alone)
    for index in alone:
        # Sums of another order may turn the odd frame that lies between two clusters.
        agree = alone[index]["semantic"] == batched[index]["semantic"]
        assert agree.mean() > 0.98


def test_bad_rows_are_failures_and_neighbours_go_on(
    kmeans: KMeans, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "zero.wav").touch()
    bad = [{"id": "zero", "audio": str(tmp_path / "zero.wav")}, {"id": "none", "audio": None}]
    results = tokenize(kmeans, [rows[0], *bad, rows[1]])
    assert [isinstance(results[index], RowFailure) for index in range(4)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert "zero bytes" in str(results[1])
    assert "names no audio" in str(results[2])


def test_the_stage_describes_itself(kmeans: KMeans) -> None:
    stage = SemanticTokenizer(load_encoder("logmel"), kmeans)
    assert stage.tokens is not None
    assert (stage.tokens.kind, stage.tokens.frame_rate) == ("semantic", 50)
    assert stage.tokens.codebook_size == 16
    assert set(stage.models) == {"encoder", "kmeans"}


def test_a_kmeans_of_another_rate_is_refused(kmeans: KMeans) -> None:
    from fractions import Fraction

    with pytest.raises(DataMismatch, match="fitted on logmel, not on logmel@25mean"):
        SemanticTokenizer(load_encoder("logmel", rate=Fraction(25)), kmeans)


def test_fitting_is_the_same_in_any_order_and_says_what_failed(
    rows: list[dict[str, Any]], kmeans: KMeans, tmp_path: Path
) -> None:
    (tmp_path / "zero.wav").touch()
    shuffled = [*rows[::-1], {"id": "zero", "audio": str(tmp_path / "zero.wav")}]
    choice = EncoderChoice(spec="logmel")
    config = ClusteringConfig(clusters=16, iterations=5)
    again = fit_kmeans(load_encoder("logmel"), choice, shuffled, config)
    np.testing.assert_array_equal(again.kmeans.centroids, kmeans.centroids)
    assert [name for name, _ in again.failures] == ["zero"]
    assert again.utterances == len(rows)


def test_fewer_frames_on_request_and_too_little_memory(rows: list[dict[str, Any]]) -> None:
    choice = EncoderChoice(spec="logmel")
    few = ClusteringConfig(clusters=8, iterations=2, max_frames=100)
    assert fit_kmeans(load_encoder("logmel"), choice, rows, few).kmeans.report["frames"] == 100
    tight = ClusteringConfig(clusters=8, memory=1000)
    with pytest.raises(DataMismatch, match="allow more memory"):
        fit_kmeans(load_encoder("logmel"), choice, rows, tight)
