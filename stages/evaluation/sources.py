"""Where the systems of an evaluation are, and how their tokens came about."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.evaluation.systems import System


def sources(
    inputs: Sequence[str],
    paths: Mapping[str, str],
    systems: Sequence[System],
    ids: Sequence[str],
    *,
    codec: str | None,
    vocoder: str | None,
    prompt_seconds: float,
    folder: Path | None,
) -> dict[str, Any]:
    """What a report needs to find the sound again, and to say how it was made, as JSON values.

    Args:
        inputs: the utterances, as the user named them; recordings and their codec come from there.
        paths: of the generated systems by name, as the user named them.
        systems: all of them.
        ids: the utterances that were judged.
        codec: of the tokens, as named.
        vocoder: as named.
        prompt_seconds: the prompt of systems that do not say.
        folder: where the scores go; paths are also given as seen from there, which still finds
            them after all was moved together.
    """
    return {
        "inputs": [_place(path, folder) for path in inputs],
        "systems": {
            system.name: {
                "paths": [
                    _place(path, folder)
                    for path in ([paths[system.name]] if system.name in paths else inputs)
                ],
                "codec": codec,
                "vocoder": vocoder,
                "prompted": _prompted(system, ids, prompt_seconds),
                "stages": [record.to_json() for record in system.provenance.stages],
            }
            for system in systems
        },
    }


def _place(path: str, folder: Path | None) -> dict[str, str]:
    if path == "-" or folder is None:
        return {"path": path}
    return {"path": path, "relative": os.path.relpath(path, folder)}


def _prompted(system: System, ids: Sequence[str], prompt_seconds: float) -> bool:
    """Whether a system was given the beginning of any utterance."""
    own = [system.prompt_seconds(row_id) for row_id in ids]
    return any(prompt_seconds > 0 if seconds is None else seconds > 0 for seconds in own)
