"""Write down what is said in recordings that have no text: a manifest with texts for all of them.

    python scripts/transcribe.py train.tsv --judge whisper:assets-cache/whisper-base -o told.tsv

Texts that are there stay. What a recogniser wrote is good enough to teach by what it hears
(`docs/training.md`), and not to measure by.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soundstorm_cli.common import run_script
from stages.audio.manifests import Line, write_manifest
from stages.audio.reading import read_audio
from stages.audio.sources import find_utterances
from stages.evaluation.judges.registry import KINDS, HearingOptions, load_judges
from stages.evaluation.measure import SAMPLE_RATE


def write_texts(asked: argparse.Namespace) -> list[tuple[str, str]]:
    """Write the manifest; gives the recordings that failed (id, reason)."""
    utterances = find_utterances(asked.inputs)
    (judge,) = load_judges(HearingOptions(judges=(asked.judge,), language=asked.language))

    def describe(utterance: Mapping[str, Any]) -> Line:
        text = utterance["text"] or judge(
            read_audio(utterance["audio"], sample_rate=SAMPLE_RATE).samples[0]
        )
        return utterance["id"], utterance["audio"], utterance["speaker"], text

    return write_manifest(asked.output, utterances, describe)


def main() -> int:
    """Read the command line and write the texts; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="files, folders or manifests")
    parser.add_argument("--judge", required=True, help=f"who listens: {KINDS}")
    parser.add_argument("--language", default="en", help="two letters")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the manifest to write")
    asked = parser.parse_args()
    if asked.output.suffix.lower() != ".tsv":
        parser.error(f"the manifest is a table parted by tabs: {asked.output} must end in .tsv")
    return run_script("transcribe", lambda: write_texts(asked))


if __name__ == "__main__":
    sys.exit(main())
