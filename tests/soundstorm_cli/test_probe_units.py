"""The probes of units: each finds what made-up units were given, and nothing where nothing is."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from stages.shards.provenance import Provenance, StageRecord
from stages.shards.rows import ID, SEMANTIC, SPEAKER, TEXT, Row
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard

pytest.importorskip("jiwer", reason="CER needs the eval extra")

REPOSITORY = Path(__file__).resolve().parents[2]
LETTERS = "abcde '"
VARIANTS = 4
"""Units that spell the same letter."""

UNITS = VARIANTS * len(LETTERS)
RATE = Fraction(25)
SPEAKERS = ("ada", "finn")
SETS = (("train", 100, 3), ("valid", 20, 4))
"""Names, rows and seeds of the two sets of a test."""


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    """The script as a module."""
    path = REPOSITORY / "scripts" / "probe_units.py"
    spec = importlib.util.spec_from_file_location("probe_units", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_rows(
    name: str, count: int, *, spelled: bool = True, own_units: bool = True, seed: int
) -> list[Row]:
    """Utterances of two speakers in turn, two or three units a letter.

    Args:
        spelled: whether units are those of the text, or of a text of their own.
        own_units: whether each speaker has half of the variants, or both have all.
    """
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        text, other = (make_text(random) for _ in range(2))
        units = []
        for letter in text if spelled else other:
            low, high = (index % 2 * 2, index % 2 * 2 + 2) if own_units else (0, VARIANTS)
            variants = random.integers(low, high, size=random.integers(2, 4))
            units += [VARIANTS * LETTERS.index(letter) + variant for variant in variants]
        rows.append(
            {
                "id": f"{name}-{index:03d}",
                "speaker": SPEAKERS[index % 2],
                "text": text.upper() + ".",
                "semantic": np.array(units, np.uint16),
            }
        )
    return rows


def make_text(random: np.random.Generator) -> str:
    """Words of letters with no two equal neighbours."""
    words = [random.permutation(list("abcde'"))[: random.integers(2, 6)] for _ in range(5)]
    return " ".join("".join(word) for word in words)


def write_set(
    path: Path,
    rows: Sequence[Row],
    *,
    fields: Sequence[pa.Field] = (ID, SPEAKER, TEXT, SEMANTIC),
    rate: Fraction = RATE,
) -> Path:
    """A shard of these rows; it says that it has units where it has their column."""
    spec = TokenSpec(
        kind="semantic", name="made-up", fingerprint="0" * 64, frame_rate=rate, codebook_size=UNITS
    )
    record = StageRecord(
        stage="made-up", version="0", settings={}, tokens=spec if SEMANTIC in fields else None
    )
    write_shard(path, [rows], pa.schema(fields), Provenance((record,)))
    return path


def test_both_probes_find_what_units_tell(
    probe: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_set(tmp_path / "train.parquet", make_rows("train", 100, seed=1))
    valid = write_set(tmp_path / "valid.parquet", make_rows("valid", 20, seed=2))
    probe.main([str(train), str(valid), "--epochs", "12", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["units"], result["frame_rate"]) == (UNITS, 25)
    text, speaker = result["text"], result["speaker"]
    assert text["cer"]["low"] <= text["cer"]["value"] <= text["cer"]["high"]
    assert text["cer"]["value"] < 0.1
    assert (text["cer"]["utterances"], text["train_rows"]) == (20, 100)
    assert speaker["accuracy"]["value"] > 0.95
    assert speaker["chance"] == 0.5
    assert (speaker["speakers"], speaker["judged"]) == (2, "validation")
    assert (speaker["accuracy"]["utterances"], speaker["train_rows"]) == (20, 100)
    lines = probe.describe(result).splitlines()
    assert lines[1].startswith("text: CER ")
    assert "chance 50.0 %, 2 speakers, 20 validation rows" in lines[2]


def test_units_of_another_text_tell_no_text(probe: ModuleType) -> None:
    train, valid = (make_rows(n, c, spelled=False, seed=s) for n, c, s in SETS)
    result = probe.probe_text(train, valid, units=UNITS, rate=RATE, epochs=12)
    assert result.cer.value > 0.5


def test_slow_units_stand_for_several_letters(probe: ModuleType) -> None:
    train, valid = (make_rows(n, c, own_units=False, seed=s) for n, c, s in SETS)
    for row in train + valid:  # a unit for each letter, and for each pair of letters another
        letters = row["text"].lower().rstrip(".")
        letters += " " * (len(letters) % 2)
        first, second = (np.array([*map(LETTERS.index, letters[start::2])]) for start in (0, 1))
        row["semantic"] = (first * len(LETTERS) + second).astype(np.uint16)
    units = len(LETTERS) ** 2
    slow = probe.probe_text(train, valid, units=units, rate=Fraction(25, 3), epochs=12)
    assert slow.too_short == 0
    assert slow.cer.value < 0.25
    with pytest.raises(probe.DataMismatch, match="no row of the training set"):
        probe.probe_text(train, valid, units=units, rate=RATE, epochs=1)


def test_speakers_of_the_same_units_are_told_by_chance(probe: ModuleType) -> None:
    train = make_rows("train", 100, own_units=False, seed=5)
    valid = make_rows("valid", 200, own_units=False, seed=6)
    result = probe.probe_speakers(train, valid, units=UNITS)
    assert result.speakers == 2
    assert abs(result.accuracy.value - result.chance) < 0.12  # 3.4 standard errors


def test_without_known_speakers_in_validation_training_rows_are_split(probe: ModuleType) -> None:
    train, valid = (make_rows(n, c, seed=s) for n, c, s in SETS)
    strangers = [row | {"speaker": f"new-{row['speaker']}"} for row in valid]
    result = probe.probe_speakers(train, strangers, units=UNITS)
    assert (result.judged, result.speakers) == ("held out", 2)
    assert (result.accuracy.utterances, result.train_rows) == (20, 80)
    assert result.accuracy.value > 0.95
    same = make_rows("train", 1000, own_units=False, seed=7)
    assert abs(probe.probe_speakers(same, [], units=UNITS).accuracy.value - 0.5) < 0.12
    assert probe.probe_speakers(train[:18], strangers, units=UNITS) is None  # nine of each


def test_speakers_of_few_utterances_and_rows_of_nobody_are_left_out(probe: ModuleType) -> None:
    train, valid = (make_rows(n, c, seed=s) for n, c, s in SETS)
    train += [row | {"speaker": "rare"} for row in make_rows("rare", 7, seed=8)]
    valid += [row | {"speaker": "rare"} for row in make_rows("rare", 3, seed=9)]
    nobody = [row | {"speaker": None} for row in make_rows("nobody", 9, seed=10)]
    result = probe.probe_speakers(train + nobody, valid + nobody, units=UNITS)
    assert (result.speakers, result.accuracy.utterances, result.train_rows) == (2, 20, 100)
    more = probe.probe_speakers(train, valid, units=UNITS, least_utterances=7)
    assert (more.speakers, more.accuracy.utterances, more.train_rows) == (3, 23, 107)


def test_the_same_seed_gives_the_same_and_padding_changes_nothing(probe: ModuleType) -> None:
    train, valid = (make_rows(n, c, seed=s) for n, c, s in SETS)
    first, second = (
        probe.probe_text(train[:20], valid[:2], units=UNITS, rate=RATE, epochs=2, seed=3)
        for _ in range(2)
    )
    assert first == second
    probe.torch.manual_seed(0)
    reader = probe.UnitReader(UNITS, outputs=1).eval()
    samples = probe.samples_of(valid[:4])
    units, lengths = probe.padded(samples)
    assert len(set(lengths.tolist())) > 1
    together = reader(units, lengths)
    for sample, scores, length in zip(samples, together, lengths, strict=True):
        alone = reader(sample.units[None], length[None])[0]
        probe.torch.testing.assert_close(scores[:length], alone)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  IT'S  a well-known\tCafé, No. 4! ", "it's a well known cafe no"),
        ("don’t", "don't"),
        ("42 ...", ""),
        (None, ""),
    ],
)
def test_text_is_brought_to_the_alphabet(
    probe: ModuleType, text: str | None, expected: str
) -> None:
    assert probe.normalise(text) == expected


def test_unfit_sets_are_one_sentence(
    probe: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, others = make_rows("a", 4, seed=1), make_rows("b", 4, seed=2)
    silent = [row | {"text": None} for row in rows]
    past = [row | {"semantic": np.array([UNITS], np.uint16)} for row in rows]
    good = write_set(tmp_path / "good.parquet", others)
    bad = {
        "no column `text`": write_set(tmp_path / "a", rows, fields=(ID, SPEAKER, SEMANTIC)),
        "no semantic tokens": write_set(tmp_path / "b", rows, fields=(ID, SPEAKER, TEXT)),
        "no row of the training set has": write_set(tmp_path / "c", silent),
        "past the codebook": write_set(tmp_path / "d", past),
        "frame rate": write_set(tmp_path / "e", rows, rate=Fraction(50)),
        "share 4 rows": good,
        "does not exist": tmp_path / "nothing",
    }
    for message, train in bad.items():
        with pytest.raises(SystemExit) as ended:
            probe.main([str(train), str(good)])
        captured = capsys.readouterr()
        assert ended.value.code == 2
        assert not captured.out
        assert message in captured.err
        assert captured.err.count("\n") == 1
    silent_valid = write_set(tmp_path / "f", silent)
    with pytest.raises(SystemExit) as ended:
        probe.main([str(good), str(silent_valid)])
    assert ended.value.code == 2
    assert "no row of the validation set has" in capsys.readouterr().err
