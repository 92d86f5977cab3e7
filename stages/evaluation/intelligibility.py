"""Word and character error rates: what a judge hears against what was said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import RowFailure
from stages.evaluation.judges.base import Judge
from stages.evaluation.judges.registry import AUTO, TEXT, TRANSCRIPT
from stages.evaluation.measure import Clip, Measure, Metric, Scores, Utterance, third_party

NAME = "wer"


def normaliser(language: str) -> Callable[[str], str]:
    """Whisper's own text normaliser: full for English, the basic one for other languages."""
    with third_party(NAME):
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    original = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()

    def normalise(text: str) -> str:
        # It leaves one dot of a closing `...` standing, which would count as a word.
        return " ".join(word for word in original(text).split() if word != ".")

    return normalise


def count_errors(reference: str, hypothesis: str) -> Scores:
    """Word and character errors of one utterance, both texts normalised already.

    Raises:
        RowFailure: if the reference has no words.
    """
    if not reference.split():
        raise RowFailure("there are no words to hold it against")
    with third_party(NAME):
        import jiwer
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return {
        "words": len(reference.split()),
        "word_errors": words.substitutions + words.deletions + words.insertions,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "characters": characters.hits + characters.substitutions + characters.deletions,
        "character_errors": (
            characters.substitutions + characters.deletions + characters.insertions
        ),
    }


class Intelligibility(Measure):
    """WER and CER of the whole clip, its prompt included, since the text is of the whole.

    What is heard is held against the text, or against what the same judge hears in the recording
    (as AudioLM does, Borsos et al. 2023): then a judge's own mistakes cancel, and a rate says how
    much of the recording's words is kept, not how intelligible it is.
    """

    def __init__(
        self, judge: Judge, *, transcripts: bool = False, names_judge: bool = False
    ) -> None:
        """
        Args:
            judge: that transcribes.
            transcripts: hold words against its transcript of the recording, not against the text.
            names_judge: whether its name is part of the measure's and the metrics', as it must be
                where there are several.
        """
        self.transcripts = transcripts
        self.uses_text, self.uses_recording = not transcripts, transcripts
        self.packages = (*judge.packages, "jiwer", "whisper_normalizer")
        self.settings = dict(judge.settings)
        if transcripts:
            self.settings["reference"] = TRANSCRIPT
        self.name = f"{NAME} {judge.name}" if names_judge else NAME
        self._suffix = f"_{judge.slug}" if names_judge else ""
        self.metrics = tuple(
            self._metric(name, title, unit, judge if names_judge else None)
            for name, title, unit in (("wer", "WER", "word"), ("cer", "CER", "character"))
        )
        self._judge, self._names_judge = judge, names_judge
        self._normalise: Callable[[str], str] | None = None
        self._recording: tuple[Any, str] = (None, "")

    @property
    def kind(self) -> str:
        return NAME  # the judge is in the settings, whether or not it is in the name

    def against_transcripts(self) -> Intelligibility:
        """The same judge, with its transcripts of the recordings as reference."""
        return Intelligibility(self._judge, transcripts=True, names_judge=self._names_judge)

    def applies(self, clip: Clip) -> bool:
        return clip.has_recording if self.transcripts else bool((clip.utterance.text or "").strip())

    def score(self, clip: Clip) -> Scores:
        reference = self._reference(clip)
        hypothesis = self._hear(clip.samples)
        return {
            "reference": reference,
            "hypothesis": hypothesis,
            **count_errors(reference, hypothesis),
        }

    def compare(
        self, scores: Mapping[str, Scores], utterances: Mapping[str, Utterance]
    ) -> dict[str, Scores]:
        """Scores under names that say whose they are, where there are several judges."""
        del utterances
        more = {"reference_is": TRANSCRIPT} if self.transcripts else {}
        return {
            row_id: {key + self._suffix: value for key, value in (found | more).items()}
            for row_id, found in scores.items()
        }

    def _metric(self, name: str, title: str, unit: str, judge: Judge | None) -> Metric:
        notes = [judge.name] if judge else []
        notes += ["to transcripts"] * self.transcripts
        return Metric(
            name=name + self._suffix,
            title=f"{title} %" + (f" ({', '.join(notes)})" if notes else ""),
            higher_is_better=False,
            scale=100,
            digits=1,
            ratio=(f"{unit}_errors{self._suffix}", f"{unit}s{self._suffix}"),
            reference=TRANSCRIPT if self.transcripts else TEXT,
        )

    def _reference(self, clip: Clip) -> str:
        if not self.transcripts:
            return self._normalised(clip.utterance.text or "")
        recording = clip.recording
        assert recording is not None
        # The systems of an utterance share its recording, which need not be heard for each.
        if self._recording[0] is not recording:
            self._recording = (recording, self._hear(recording))
        return self._recording[1]

    def _hear(self, samples: NDArray[np.float32]) -> str:
        return self._normalised(self._judge(samples))

    def _normalised(self, text: str) -> str:
        if self._normalise is None:
            self._normalise = normaliser(self._judge.language)
        return self._normalise(text)


def settle_reference(
    measures: Sequence[Measure], reference: str, utterances: Iterable[Utterance]
) -> list[Measure]:
    """Choose what words are held against, one thing for the whole set: never now this, now that.

    Args:
        measures: some of which may be `Intelligibility` with the text as reference.
        reference: `text` or `transcript`; `auto` takes transcripts only where no utterance at all
            has a text.
        utterances: of the set.
    """
    if reference == AUTO:
        has_text = any((utterance.text or "").strip() for utterance in utterances)
        reference = TEXT if has_text else TRANSCRIPT
    if reference == TEXT:
        return list(measures)
    return [
        measure.against_transcripts() if isinstance(measure, Intelligibility) else measure
        for measure in measures
    ]
