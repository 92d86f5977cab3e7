"""Error rates of texts whose errors are known, and of real speech where Whisper is there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.audio.reading import read_audio
from stages.errors import DataMismatch, RowFailure
from stages.evaluation.intelligibility import (
    Intelligibility,
    count_errors,
    normaliser,
    settle_reference,
)
from stages.evaluation.judges.whisper import Whisper
from stages.evaluation.measure import SAMPLE_RATE, Clip, Scores, Utterance
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


def test_a_recording_in_which_nothing_is_heard_is_not_called_a_text() -> None:
    silent = Clip(Utterance(id="a", text="word"), lambda: sound(1), load_recording=lambda: sound(0))
    with pytest.raises(RowFailure, match=r"^there are no words to hold it against$"):
        Intelligibility(Counter()).against_transcripts().score(silent)


def test_texts_are_compared_as_whisper_normalises_them() -> None:
    scores = Intelligibility(Parrot("Mr. Brown's colour, in 1803!")).score(
        clip("MISTER BROWN'S COLOR IN EIGHTEEN O THREE")
    )
    assert scores["word_errors"] == 0
    assert scores["hypothesis"] == scores["reference"] == "mister brown is color in 1803"
    assert normaliser("de")("Grüß Gott!") == "grüß gott"
    assert normaliser("en")("Wait... what? It is 3.5") == "wait what it is 3.5"


def test_the_rate_is_of_the_corpus_and_not_the_mean_of_rates() -> None:
    wer, cer = Intelligibility(Parrot("")).metrics
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


class Counter(Whisper):
    """Hears as many words as its first sample says, and counts how often it is asked."""

    def __init__(self, model: str = "base") -> None:
        super().__init__(model)
        self.heard = 0

    def __call__(self, samples: NDArray[np.float32]) -> str:
        self.heard += 1
        return " ".join(f"word{chr(97 + index)}" for index in range(int(samples[0])))


def sound(words: int) -> NDArray[np.float32]:
    return np.full(SAMPLE_RATE, words, dtype=np.float32)


def test_words_may_be_held_against_a_transcript_of_the_recording() -> None:
    judge = Counter()
    measure = Intelligibility(judge).against_transcripts()
    recording = sound(4)
    scores: dict[str, Scores] = {}
    for name, words in (("same", 4), ("longer", 6), ("shorter", 1)):
        heard = Clip(
            Utterance(id="a", text="something else"),
            lambda words=words: sound(words),  # type: ignore[misc]
            load_recording=lambda: recording,
        )
        assert measure.applies(heard)
        scores[name] = measure.score(heard)
    assert scores["same"]["word_errors"] == 0
    assert scores["longer"]["insertions"] == 2
    assert scores["shorter"]["deletions"] == 3
    assert judge.heard == 4  # the recording once
    assert not measure.applies(clip("a recording itself"))
    found = measure.compare(scores, {})
    assert found["same"]["reference_is"] == "transcript"
    assert [metric.title for metric in measure.metrics] == [
        "WER % (to transcripts)", "CER % (to transcripts)",
    ]  # fmt: skip
    assert [metric.reference for metric in measure.metrics] == ["transcript", "transcript"]
    assert measure.settings == judge.settings | {"reference": "transcript"}


def test_one_reference_is_settled_for_the_whole_set() -> None:
    measures = [Intelligibility(Counter())]
    some = [Utterance(id="a", text=None), Utterance(id="b", text="word")]
    none = [Utterance(id="a", text=" "), Utterance(id="b")]
    chosen: dict[tuple[str, bool], bool] = {}
    for reference in ("auto", "text", "transcript"):
        for utterances in (some, none):
            (measure,) = settle_reference(measures, reference, utterances)
            assert isinstance(measure, Intelligibility)
            chosen[reference, utterances is some] = measure.transcripts
    assert chosen == {
        ("auto", True): False, ("auto", False): True, ("text", True): False,
        ("text", False): False, ("transcript", True): True, ("transcript", False): True,
    }  # fmt: skip


def test_several_judges_have_metrics_of_their_own() -> None:
    alone = Intelligibility(Counter())
    named = Intelligibility(Counter(), names_judge=True)
    assert named.name == "wer whisper:base"
    assert named.kind == alone.kind == "wer"  # one cache for both
    wer, cer = named.metrics
    assert (wer.name, wer.title) == ("wer_whisper_base", "WER % (whisper:base)")
    assert cer.name == "cer_whisper_base"
    found = named.compare({"a": count_errors("one two", "one")}, {})
    value = estimate(wer, [found["a"]])
    assert value is not None
    assert value.value == 0.5


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
