"""Listeners' ratings: mean opinion scores by system, agreement of raters, paired tests.

As in the paper's Table 2 (section 4.2): means on a scale of 1 to 5 with 95 % bootstrap intervals.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.audio.manifests import table_records
from stages.errors import DataMismatch
from stages.evaluation.measure import third_party
from stages.evaluation.statistics import CONFIDENCE, RESAMPLES, SEED, Estimate

COLUMNS = ("rater", "sample", "system", "score")
LOWEST, HIGHEST = 1.0, 5.0

AT_ONCE = 4_000_000
"""Cells of resampled tables in memory."""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What one rater thought of one sample of one system."""

    rater: str

    sample: str
    """What is spoken: systems that speak the same sample are compared on it."""

    system: str

    score: float
    """From 1 to 5."""


@dataclass(frozen=True, kw_only=True)
class MeanOpinion:
    """A system's mean opinion score."""

    estimate: Estimate
    """Over all its ratings; its count is of samples."""

    raters: int
    ratings: int


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two systems on the samples that both speak."""

    systems: tuple[str, str]

    samples: int

    difference: float
    """Mean, over samples, of the first system's mean score less the second's."""

    p: float
    """Of Wilcoxon's signed-rank test, two-sided."""

    adjusted: float
    """The same after Holm's correction for the number of pairs."""


@dataclass(frozen=True, kw_only=True)
class OpinionReport:
    """What a file of ratings comes to."""

    systems: dict[str, MeanOpinion]
    """In the order of the file."""

    agreement: float | None
    """Krippendorff's alpha of all raters; None where nothing tells."""

    pairs: list[PairedTest]
    """Of all systems that share a sample."""

    def to_json(self) -> dict[str, Any]:
        systems = {
            name: {
                "mos": found.estimate.value,
                "low": found.estimate.low,
                "high": found.estimate.high,
                "ratings": found.ratings,
                "raters": found.raters,
                "samples": found.estimate.utterances,
            }
            for name, found in self.systems.items()
        }
        pairs = [
            {
                "systems": list(pair.systems),
                "samples": pair.samples,
                "difference": pair.difference,
                "p": pair.p,
                "p_holm": pair.adjusted,
            }
            for pair in self.pairs
        ]
        return {"systems": systems, "krippendorff_alpha": self.agreement, "pairs": pairs}


def read_ratings(path: Path) -> list[Rating]:
    """Read CSV, TSV or Parquet with the columns rater, sample, system and score.

    Raises:
        DataMismatch: if it cannot be read, lacks a column, or has a row that is no rating or rates
            again what the same rater rated before.
    """
    ratings: list[Rating] = []
    places: dict[tuple[str, str, str], str] = {}
    for place, record in _records(path):
        rating = _rating(f"{path} {place}", record)
        what = (rating.rater, rating.sample, rating.system)
        if what in places:
            raise DataMismatch(
                f"{path} {place}: rater {rating.rater} rates sample {rating.sample} of "
                f"{rating.system} again, after {places[what]}: keep one of the two"
            )
        places[what] = place
        ratings.append(rating)
    if not ratings:
        raise DataMismatch(f"{path} has no ratings: every line after its header is one")
    return ratings


def summarise(ratings: Sequence[Rating]) -> OpinionReport:
    """Means, agreement and tests.

    Raises:
        DataMismatch: if nltk, which knows Krippendorff's alpha, is not installed.
    """
    by_system: dict[str, list[Rating]] = {}
    for rating in ratings:
        by_system.setdefault(rating.system, []).append(rating)
    return OpinionReport(
        systems={name: mean_opinion(rated) for name, rated in by_system.items()},
        agreement=krippendorff_alpha(ratings),
        pairs=_paired_tests(by_system),
    )


def mean_opinion(ratings: Sequence[Rating]) -> MeanOpinion:
    """The mean of one system's ratings, with a percentile bootstrap over raters and samples.

    Both are drawn anew, each with replacement and apart from the other, since a listening test is
    a choice of listeners and of samples (the pigeonhole bootstrap, Owen 2007). Resampling ratings
    alone would take a rater's habits, or a sample's flaw, for so many independent opinions.
    """
    raters = _places(rating.rater for rating in ratings)
    samples = _places(rating.sample for rating in ratings)
    scores = np.zeros((len(raters), len(samples)))  # [R, S]
    given = np.zeros_like(scores)
    for rating in ratings:
        cell = raters[rating.rater], samples[rating.sample]
        scores[cell], given[cell] = rating.score, 1
    low, high = _interval(scores, given)
    value = float(scores.sum() / given.sum())
    return MeanOpinion(
        estimate=Estimate(value=value, low=low, high=high, utterances=len(samples)),
        raters=len(raters),
        ratings=len(ratings),
    )


def krippendorff_alpha(ratings: Sequence[Rating]) -> float | None:
    """Krippendorff's alpha at the interval level, of ratings of the same sample of a system.

    It takes any number of raters, and raters who did not rate everything. 1 is full agreement, 0
    what chance would give; None if no rater rates what another one does, or all scores are equal.

    Raises:
        DataMismatch: if nltk is not installed.
    """
    with third_party("eval mos"):
        from nltk.metrics.agreement import AnnotationTask
        from nltk.metrics.distance import interval_distance
    if len({rating.score for rating in ratings}) < 2:
        return None
    task = AnnotationTask(
        [(rating.rater, (rating.system, rating.sample), rating.score) for rating in ratings],
        distance=interval_distance,
    )
    try:
        return float(task.alpha())
    except ZeroDivisionError:
        return None


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction of p-values, which holds however tests depend.

    SciPy corrects the rate of false discoveries only, which allows more of them.
    """
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def _places(names: Iterable[str]) -> dict[str, int]:
    """Where each name is in their sorted list: the order of the file draws no other resamples."""
    return {name: index for index, name in enumerate(sorted(set(names)))}


def _interval(
    scores: NDArray[np.float64], given: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Of the mean of those of `[R, S]` scores that were given."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    if min(scores.shape) < 2:  # one rater, or one sample, tells nothing of others
        return None, None

    def mean(raters: NDArray[np.int64], samples: NDArray[np.int64], axis: int) -> Any:
        """Of resamples: indices `[..., R]` and `[..., S]`."""
        del axis  # the last
        cells = raters[..., :, None], samples[..., None, :]
        with np.errstate(invalid="ignore"):  # nobody in a resample may have rated its samples
            return scores[cells].sum(axis=(-2, -1)) / given[cells].sum(axis=(-2, -1))

    with warnings.catch_warnings():  # of resamples without a rating, which are left out below
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            tuple(np.arange(size) for size in scores.shape),
            mean,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, AT_ONCE // scores.size),
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).bootstrap_distribution
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _paired_tests(by_system: dict[str, list[Rating]]) -> list[PairedTest]:
    means = {name: _sample_means(rated) for name, rated in by_system.items()}
    tests: list[tuple[tuple[str, str], NDArray[np.float64], float]] = []
    for one, other in combinations(means, 2):
        shared = sorted(means[one].keys() & means[other].keys())
        if shared:
            differences = np.array([means[one][name] - means[other][name] for name in shared])
            tests.append(((one, other), differences, _signed_rank(differences)))
    adjusted = holm([p for _, _, p in tests])
    return [
        PairedTest(
            systems=names,
            samples=len(differences),
            difference=float(differences.mean()),
            p=p,
            adjusted=corrected,
        )
        for (names, differences, p), corrected in zip(tests, adjusted, strict=True)
    ]


def _sample_means(ratings: Sequence[Rating]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for rating in ratings:
        scores.setdefault(rating.sample, []).append(rating.score)
    return {sample: float(np.mean(given)) for sample, given in scores.items()}


def _signed_rank(differences: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with where they are: `line 3` or `row 2`."""
    if path.suffix.lower() == ".parquet":
        yield from _parquet_records(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, record in table_records(path, file):
                yield f"line {line}", record
    except UnicodeDecodeError:
        raise DataMismatch(f"{path} is not UTF-8 text: save the ratings as UTF-8") from None
    except OSError as error:
        raise DataMismatch(f"{path} cannot be read: {error.strerror}") from None


def _parquet_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataMismatch(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", {str(name).strip().lower(): value for name, value in row.items()}


def _rating(where: str, record: dict[str, Any]) -> Rating:
    cells = {name: str(record[name]).strip() for name in COLUMNS if record.get(name) is not None}
    for name in COLUMNS:
        if not cells.get(name):
            raise DataMismatch(f"{where} has no {name}: a rating has {', '.join(COLUMNS)}")
    try:
        score = float(cells.pop("score"))
    except ValueError:
        score = np.nan
    if not LOWEST <= score <= HIGHEST:
        raise DataMismatch(
            f"{where}: the score {record['score']} is no number from {LOWEST:g} to {HIGHEST:g}"
        )
    return Rating(**cells, score=score)
