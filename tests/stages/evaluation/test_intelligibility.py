"""Error rates of texts whose errors are known, and of real speech where Whisper is there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from stages.audio.reading import read_audio
from stages.errors import DataMismatch, RowFailure
from stages.evaluation.intelligibility import Intelligibility, Whisper, count_errors, normaliser
from stages.evaluation.measure import SAMPLE_RATE, Clip, Utterance
from stages.evaluation.statistics import estimate

pytest.importorskip("jiwer", reason="WER needs the eval extra")
pytest.importorskip("whisper_normalizer", reason="WER needs the eval extra")


class Parrot(Whisper):
    """Says what it was told to, whatever it hears."""

    def __init__(self, says: str) -> None:
        super().__init__("parrot")
        self._says = says

    def __call__(self, samples: object) -> str:
        return self._says


def clip(text: str | None) -> Clip:
    return Clip(Utterance(id="a", text=text), lambda: np.zeros(SAMPLE_RATE, dtype=np.float32))


@pytest.mark.parametrize(
    ("hypothesis", "substitutions", "deletions", "insertions"),
    [
        ("the cat sat on the mat", 0, 0, 0),
        ("the cat sit on the mat", 1, 0, 0),
        ("the cat on the mat", 0, 1, 0),
        ("the cat sat on the mat again and again", 0, 0, 3),
        ("a cat sat the mat now", 1, 1, 1),
        ("", 0, 6, 0),
    ],
)
def test_word_errors_are_counted_by_kind(
    hypothesis: str, substitutions: int, deletions: int, insertions: int
) -> None:
    counts = count_errors("the cat sat on the mat", hypothesis)
    assert counts["words"] == 6
    assert counts["substitutions"] == substitutions
    assert counts["deletions"] == deletions
    assert counts["insertions"] == insertions
    assert counts["word_errors"] == substitutions + deletions + insertions


def test_character_errors_are_counted_with_spaces() -> None:
    counts = count_errors("abc de", "abd de f")
    assert counts["characters"] == 6
    assert counts["character_errors"] == 3


def test_a_text_without_words_is_a_failure() -> None:
    with pytest.raises(RowFailure, match="no words"):
        Intelligibility(Parrot("something")).score(clip("..."))


def test_texts_are_compared_as_whisper_normalises_them() -> None:
    scores = Intelligibility(Parrot("Mr. Brown's colour, in 1803!")).score(
        clip("MISTER BROWN'S COLOR IN EIGHTEEN O THREE")
    )
    assert scores["word_errors"] == 0
    assert scores["hypothesis"] == scores["reference"] == "mister brown is color in 1803"
    assert normaliser("de")("Grüß Gott!") == "grüß gott"
    assert normaliser("en")("Wait... what? It is 3.5") == "wait what it is 3.5"


def test_the_rate_is_of_the_corpus_and_not_the_mean_of_rates() -> None:
    wer, cer = Intelligibility.metrics
    scores = [count_errors("yes", "no"), count_errors("a b c d e f g h i", "a b c d e f g h i")]
    found = estimate(wer, scores)
    assert found is not None
    assert found.value == pytest.approx(1 / 10)
    assert not wer.higher_is_better
    assert not cer.higher_is_better


def test_only_clips_with_a_text_are_judged() -> None:
    measure = Intelligibility(Parrot(""))
    assert measure.applies(clip("word"))
    assert not measure.applies(clip(" "))
    assert not measure.applies(clip(None))


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere", "a/b/c"])
def test_a_path_without_a_model_is_never_looked_up_elsewhere(path: str) -> None:
    with pytest.raises(DataMismatch, match="is no Whisper model"):
        Whisper(path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="is no Whisper model"):
        Whisper(str(tmp_path))


def test_settings_tell_models_apart_by_their_weights(tmp_path: Path) -> None:
    for name, content in (("one", b"1"), ("same", b"1"), ("other", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(content)
    one, same, other = (Whisper(str(tmp_path / name)).settings for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_a_damaged_model_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="needs the eval extra")
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(DataMismatch, match="cannot be loaded"):
        Whisper(str(tmp_path))(np.zeros(SAMPLE_RATE, dtype=np.float32))


def test_whisper_understands_a_recording(whisper_folder: Path, shared: Path) -> None:
    with (shared / "data" / "valid.tsv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file, delimiter="\t") if row["text"])
    samples = read_audio(str(shared / "data" / row["audio"]), sample_rate=SAMPLE_RATE).samples[0]
    measure = Intelligibility(Whisper(str(whisper_folder)))
    heard = Clip(Utterance(id="a", text=row["text"]), lambda: samples)
    scores = measure.score(heard)
    assert scores["word_errors"] <= 0.2 * scores["words"]
    assert measure.score(heard) == scores
