"""A made-up evaluation: six systems, six utterances, sound files, and scores that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray

MakeSpeech = Callable[..., NDArray[np.float32]]

SECONDS = [4.0, 6.0, 9.0, 12.0, 15.0, 18.0]
"""As the scores say; the sound files are much shorter, which nobody checks."""

SYSTEMS: dict[str, dict[str, Any]] = {
    "recordings": {"errors": 0, "quality": 4.0, "consistency": 0.95},
    "codec": {"errors": 1, "quality": 3.9, "consistency": 0.93},
    "audiolm": {"errors": 4, "quality": 3.5, "consistency": 0.80},
    "soundstorm": {"errors": 2, "quality": 3.6, "consistency": 0.90, "iterations": [16, 1]},
    "greedy": {"errors": 3, "quality": 3.0, "consistency": 0.88, "iterations": [1, 1]},
    "unprompted": {"errors": 3, "quality": 3.7, "iterations": [16, 1]},
}
METRICS = {"wer": False, "dnsmos_overall": True, "consistency": True}


def _stages(name: str) -> list[dict[str, Any]]:
    tokens = {
        "kind": "acoustic", "name": "toy", "fingerprint": "c" * 64, "frame_rate": "50/1",
        "codebook_size": 8, "levels": 2,
    }  # fmt: skip
    record = {"stage": "tokenize-acoustic", "version": "1", "settings": {"levels": 2},
              "fingerprint": "", "models": {"codec": "c" * 64}, "tokens": tokens,
              "failed": 0}  # fmt: skip
    if name == "recordings":
        return []
    if name == "codec":
        return [record]
    settings: dict[str, Any] = {"seed": 7, "temperature": 1.0}
    iterations = SYSTEMS[name].get("iterations")
    settings |= {"iterations": iterations} if iterations else {"method": "audiolm"}
    models = {"soundstorm" if iterations else "audiolm-coarse": "d" * 64}
    return [record, record | {"stage": "decode", "settings": settings, "models": models}]


def _length(seconds: float) -> str:
    return "short" if seconds < 10 else "mid"


def _estimate(values: list[float]) -> dict[str, Any]:
    return {"value": float(np.mean(values)), "low": min(values), "high": max(values),
            "utterances": len(values)}  # fmt: skip


def _metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = {"wer": _estimate([row["word_errors"] / row["words"] for row in rows])}
    for name in ("dnsmos_overall", "consistency"):
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            found[name] = _estimate(values)
    return found


@pytest.fixture
def evaluation(tmp_path: Path, make_speech: MakeSpeech) -> Path:
    """The folder `made/eval` of scores, and the sound of its systems in `made/NAME`."""
    folder = tmp_path / "made" / "eval"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for name, system in SYSTEMS.items():
        sounds = folder.parent / name
        sounds.mkdir()
        for index, seconds in enumerate(SECONDS):
            soundfile.write(
                sounds / f"u{index}.wav", make_speech(0.5 + 0.1 * index, seed=index), 16_000
            )
            noise = random.normal(0, 0.01)
            consistency = system.get("consistency")
            rows.append(
                {
                    "id": f"u{index}", "system": name, "speaker": f"s{index % 2}",
                    "reference": "it is <made> up & said", "words": 20,
                    "word_errors": system["errors"], "seconds": seconds,
                    "length": _length(seconds), "dnsmos_overall": system["quality"] + noise,
                    "consistency": None if consistency is None else consistency + noise,
                }
            )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    by_system = {name: [row for row in rows if row["system"] == name] for name in SYSTEMS}
    value = {
        "utterances": len(SECONDS),
        "failed": 0,
        "missing": {},
        "skipped": {"voice": "no system has a prompt"},
        "metrics": {name: {"higher_is_better": better} for name, better in METRICS.items()},
        "settings": {
            "inputs": ["tokens"], "limit": None, "prompt_seconds": 3.0, "codec": None,
            "vocoder": None, "systems": {name: f"gone/{name}" for name in SYSTEMS},
            "measures": {"wer": {"judge": "whisper:base", "beam": 1}},
        },
        "systems": {name: _metrics(found) for name, found in by_system.items()},
        "lengths": {
            length: {
                "utterances": 0 if length == "long" else 3,
                "systems": {
                    name: _metrics([row for row in found if row["length"] == length])
                    for name, found in by_system.items()
                    if length != "long"
                },
            }
            for length in ("long", "mid", "short")
        },
        "curves": {
            "consistency": {
                "seconds": [1.5, 4.5],
                "systems": {
                    name: {"median": [0.9, None], "low": [0.85, None], "high": [0.95, None],
                           "utterances": [6, 0]}
                    for name in SYSTEMS
                },
            }
        },
        "sources": {
            "inputs": [{"path": "tokens", "relative": "../tokens"}],
            "systems": {
                name: {
                    "paths": [{"path": f"gone/{name}", "relative": f"../{name}"}],
                    "codec": None,
                    "vocoder": None,
                    "prompted": name != "unprompted",
                    "stages": _stages(name),
                }
                for name in SYSTEMS
            },
        },
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(value))
    return folder


def _estimated(value: float, spread: float = 0.05) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "utterances": 6}


@pytest.fixture
def ablation() -> dict[str, Any]:
    """Four settings: greedy is worse than the default by 0.3 to 0.4 of quality, more are none."""
    rows = []
    for name, iterations, quality in (
        ("greedy", [1, 1], 3.15), ("16-1", [16, 1], 3.5), ("32-1", [32, 1], 3.51),
        ("16", [16, 16], 3.9),
    ):  # fmt: skip
        rows.append(
            {
                "group": "first level", "name": name, "iterations": iterations,
                "temperature": 0.0 if name == "greedy" else 1.0, "passes": sum(iterations),
                "default": name == "16-1", "seconds_per_second": 0.01 * sum(iterations),
                "seconds_per_second_interval": [0.01, 0.5], "times_default": sum(iterations) / 17,
                "metrics": {"dnsmos_overall": _estimated(quality)},
                "differences": {}
                if name == "16-1"
                else {"dnsmos_overall": _estimated(quality - 3.5)},
            }
        )  # fmt: skip
    return {
        "settings": {"model": "mini", "seed": 0}, "machines": [{"device": "cpu", "threads": 2}],
        "default": "16-1", "utterances": 6, "missing": {}, "references": {},
        "metrics": {"dnsmos_overall": {"higher_is_better": True}}, "rows": rows,
    }  # fmt: skip
