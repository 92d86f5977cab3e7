"""Listeners' ratings whose means, agreement and tests are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.errors import DataMismatch
from stages.evaluation.ratings import (
    Rating,
    holm,
    krippendorff_alpha,
    mean_opinion,
    read_ratings,
    summarise,
)

pytest.importorskip("nltk", reason="agreement needs the eval extra")

HEADER = "rater,sample,system,score\n"


def rating(rater: object, sample: object, system: str, score: float) -> Rating:
    return Rating(rater=str(rater), sample=str(sample), system=system, score=score)


def test_krippendorffs_own_example() -> None:
    """Krippendorff 2011, Computing Krippendorff's alpha-reliability, section E: interval data."""
    rows = {
        "A": "123321412...",
        "B": "123322412 5.3".replace(" ", ""),
        "C": ".333234225 1.".replace(" ", ""),
        "D": "1233244125 1.".replace(" ", ""),
    }
    ratings = [
        rating(rater, unit, "x", float(value))
        for rater, values in rows.items()
        for unit, value in enumerate(values)
        if value != "."
    ]
    assert krippendorff_alpha(ratings) == pytest.approx(0.849, abs=5e-4)


def test_agreement_is_whole_by_chance_or_unknown() -> None:
    full = [rating(rater, unit, "x", 1 + unit % 5) for rater in "ab" for unit in range(10)]
    assert krippendorff_alpha(full) == pytest.approx(1.0)
    random = np.random.default_rng(0)
    chance = [
        rating(rater, unit, "x", float(random.integers(1, 6)))
        for rater in range(5)
        for unit in range(100)
    ]
    assert krippendorff_alpha(chance) == pytest.approx(0.0, abs=0.1)
    assert krippendorff_alpha([rating("a", 1, "x", 4), rating("b", 2, "x", 5)]) is None
    assert krippendorff_alpha([rating(rater, 1, "x", 4) for rater in "ab"]) is None


def test_holms_correction_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_mean_is_of_all_ratings_and_its_interval_knows_of_raters() -> None:
    random = np.random.default_rng(1)
    strictness = {rater: random.normal(0, 0.8) for rater in range(10)}
    ratings = [
        rating(rater, sample, "x", float(np.clip(3 + strictness[rater], 1, 5)))
        for rater in range(10)
        for sample in range(40)
    ]
    found = mean_opinion(ratings)
    scores = np.array([one.score for one in ratings])
    assert found.estimate.value == pytest.approx(scores.mean())
    assert (found.ratings, found.raters, found.estimate.utterances) == (400, 10, 40)
    assert found.estimate.low is not None
    assert found.estimate.high is not None
    width = found.estimate.high - found.estimate.low
    of_raters = np.std([3 + value for value in strictness.values()]) / np.sqrt(10)
    assert width == pytest.approx(2 * 1.96 * of_raters, rel=0.25)
    assert width > 3 * (2 * 1.96 * scores.std() / np.sqrt(400))  # ratings are not independent
    assert mean_opinion(ratings[::-1]) == found


def test_a_sparse_design_has_an_interval_and_a_single_rater_none() -> None:
    sparse = [rating(index, index, "x", 1.0 + index % 5) for index in range(6)]
    found = mean_opinion(sparse).estimate
    assert found.low is not None
    assert found.high is not None
    assert 1.0 <= found.low <= found.value <= found.high <= 5.0
    alone = mean_opinion([rating("a", sample, "x", 3 + sample % 2) for sample in range(9)])
    assert alone.estimate.low is None
    assert alone.estimate.high is None


def test_systems_are_tested_on_the_samples_that_they_share() -> None:
    ratings = [
        rating(rater, sample, system, base + (rater == "b"))
        for rater in "ab"
        for sample in range(10)
        for system, base in (("good", 4), ("fair", 3), ("same", 3))
        if not (system == "same" and sample > 7)
    ] + [rating("a", "elsewhere", "alone", 2)]
    report = summarise(ratings)
    assert list(report.systems) == ["good", "fair", "same", "alone"]
    pairs = {pair.systems: pair for pair in report.pairs}
    assert set(pairs) == {("good", "fair"), ("good", "same"), ("fair", "same")}
    assert pairs["good", "fair"].difference == pytest.approx(1.0)
    # All ten differences have one sign; they are tied, so the normal approximation is used.
    assert pairs["good", "fair"].p < 0.01
    assert pairs["good", "fair"].adjusted == pytest.approx(3 * pairs["good", "fair"].p)
    assert pairs["good", "same"].samples == 8
    assert (pairs["fair", "same"].difference, pairs["fair", "same"].p) == (0.0, 1.0)


def test_csv_tsv_and_parquet_are_read_alike(tmp_path: Path) -> None:
    expected = [rating("r 1", "s1", "a", 4.0), rating("2", "s1", "a", 3.5)]
    (tmp_path / "a.csv").write_text("Score,rater,sample,system,age\n4,r 1,s1,a,30\n3.5,2,s1,a,\n")
    (tmp_path / "a.tsv").write_text(
        "rater\tsample\tsystem\tscore\nr 1\ts1\ta\t4\n\n2\ts1\ta\t3.5\n"
    )
    columns = {"rater": ["r 1", "2"], "sample": ["s1", "s1"], "system": ["a", "a"]}
    pq.write_table(pa.table(columns | {"score": [4.0, 3.5]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv", "a.parquet"):
        assert read_ratings(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a,s,x,6\n", "line 2: the score 6 is no number from 1 to 5"),
        ("a,s,x,4\nb,s,x,good\n", "line 3: the score good is no number from 1 to 5"),
        ("a,s,x,nan\n", "line 2: the score nan"),
        ("a,s,x,4\na,s,y,4\na,s,x,5\n", "line 4: rater a rates sample s of x again, after line 2"),
        ("a,,x,4\n", "line 2 has no sample: a rating has rater, sample, system, score"),
        ("a,s,x\n", "line 2 has no score"),
        ("a,s,x,4,5\n", "line 2 has 5 cells under a header of 4 columns"),
        ("", "has no ratings"),
    ],
)
def test_a_bad_row_is_one_sentence_with_its_line(tmp_path: Path, lines: str, sentence: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(HEADER + lines)
    with pytest.raises(DataMismatch) as refused:
        read_ratings(path)
    assert str(refused.value).startswith(f"{path} ")
    assert sentence in str(refused.value)


def test_files_that_are_no_tables_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"none")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "ä,s,x,4\n".encode("latin-1"))
    for name in ("a.parquet", "missing.csv", "missing.parquet"):
        with pytest.raises(DataMismatch, match="cannot be read"):
            read_ratings(tmp_path / name)
    with pytest.raises(DataMismatch, match="is not UTF-8"):
        read_ratings(tmp_path / "latin.csv")
    pq.write_table(pa.table({"rater": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(DataMismatch, match="row 1 has no sample"):
        read_ratings(tmp_path / "b.parquet")
