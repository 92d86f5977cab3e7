"""Word and character error rates: what Whisper hears against what was said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.measure import Clip, Measure, Metric, Scores, third_party
from stages.shards.provenance import hash_file

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
        raise RowFailure("its text has no words")
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


class Whisper:
    """faster-whisper as a function from sound to words; it loads at the first call."""

    def __init__(
        self,
        model: str,
        *,
        language: str = "en",
        beam: int = 1,
        compute_type: str = "int8",
        device: str = "cpu",
    ) -> None:
        """
        Args:
            model: a name that faster-whisper knows (`base`, `large-v3`) or a folder.
            language: the language spoken, two letters.
            beam: beam width; 1 is greedy.
            compute_type: CTranslate2's, `int8` or `float32` for example.
            device: `cpu` or `cuda`.
        """
        folder = Path(model)
        weights = folder / "model.bin"
        # A path that is none would be taken for a name, and looked for far away.
        is_path = folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1
        if (folder.is_dir() or is_path) and not weights.is_file():
            raise DataMismatch(
                f"{model} is no Whisper model: give a folder with a CTranslate2 model.bin, or a "
                "name such as base"
            )
        self.settings: dict[str, Any] = {
            "whisper": hash_file(weights) if weights.is_file() else model,
            "language": language,
            "beam": beam,
            "compute_type": compute_type,
        }
        self._name = model
        self._device = device.split(":")[0]
        self._model: Any = None

    def __call__(self, samples: Any) -> str:
        """Transcribe `[N]` float32 at 16 kHz, the same way each time."""
        if self._model is None:
            self._model = self._load()
        segments, _ = self._model.transcribe(
            samples,
            language=self.settings["language"],
            beam_size=self.settings["beam"],
            temperature=0.0,  # no second try by sampling: a score must not depend on chance
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    def _load(self) -> Any:
        with third_party(NAME):
            from faster_whisper import WhisperModel

            try:
                return WhisperModel(
                    self._name,
                    device=self._device,
                    compute_type=self.settings["compute_type"],
                    cpu_threads=len(os.sched_getaffinity(0)),
                )
            except ImportError:
                raise
            except Exception as error:  # whatever the hub, the disk or CTranslate2 says
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise DataMismatch(
                    f"Whisper model {self._name} cannot be loaded ({reason}): give a folder that "
                    "holds one, or a name that can be downloaded"
                ) from None


class Intelligibility(Measure):
    """WER and CER of the whole clip, its prompt included, since the text is of the whole."""

    name = NAME
    metrics = (
        Metric(
            name="wer", title="WER %", higher_is_better=False, scale=100, digits=1,
            ratio=("word_errors", "words"),
        ),
        Metric(
            name="cer", title="CER %", higher_is_better=False, scale=100, digits=1,
            ratio=("character_errors", "characters"),
        ),
    )  # fmt: skip
    packages = ("faster_whisper", "jiwer", "whisper_normalizer")
    uses_text = True

    def __init__(self, whisper: Whisper) -> None:
        self.settings = dict(whisper.settings)
        self._whisper = whisper
        self._normalise: Callable[[str], str] | None = None

    def applies(self, clip: Clip) -> bool:
        return bool((clip.utterance.text or "").strip())

    def score(self, clip: Clip) -> Scores:
        if self._normalise is None:
            self._normalise = normaliser(self.settings["language"])
        reference = self._normalise(clip.utterance.text or "")
        hypothesis = self._normalise(self._whisper(clip.samples))
        return {
            "reference": reference,
            "hypothesis": hypothesis,
            **count_errors(reference, hypothesis),
        }
