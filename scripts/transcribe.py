"""Write down what is said in recordings that have no text: a manifest with texts for all of them.

    python scripts/transcribe.py train.tsv --judge whisper:assets-cache/whisper-base -o told.tsv

Texts that are there stay. What a recogniser wrote is good enough to teach by what it hears
(`docs/training.md`), and not to measure by.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from soundstorm_cli.common import say, say_failures
from stages.audio.reading import read_audio
from stages.audio.sources import find_utterances
from stages.errors import RowFailure, SoundStormError
from stages.evaluation.judges.registry import KINDS, HearingOptions, load_judges
from stages.evaluation.measure import SAMPLE_RATE


def write_texts(asked: argparse.Namespace) -> list[tuple[str, str]]:
    """Write the manifest; gives the recordings that failed (id, reason)."""
    utterances = find_utterances(asked.inputs)
    (judge,) = load_judges(HearingOptions(judges=(asked.judge,), language=asked.language))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    with asked.output.open("w", newline="") as file:
        lines = csv.writer(file, delimiter="\t")
        lines.writerow(["id", "audio", "speaker", "text"])
        for utterance in utterances:
            text = utterance["text"]
            if not text:
                try:
                    text = judge(read_audio(utterance["audio"], sample_rate=SAMPLE_RATE).samples[0])
                except RowFailure as failure:
                    failures.append((utterance["id"], str(failure)))
                    continue
            spoken = " ".join(text.split())
            lines.writerow(
                [utterance["id"], utterance["audio"], utterance["speaker"] or "", spoken]
            )
    return failures


def main() -> int:
    """Read the command line and write the texts; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="files, folders or manifests")
    parser.add_argument("--judge", required=True, help=f"who listens: {KINDS}")
    parser.add_argument("--language", default="en", help="two letters")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the manifest to write")
    asked = parser.parse_args()
    name = "transcribe"
    try:
        failures = write_texts(asked)
    except SoundStormError as error:
        say(f"{name}: {error}")
        return error.exit_code
    say_failures(name, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
