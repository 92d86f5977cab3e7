"""Manifests that hold what no column or file name can: a sentence, or a row that fails alone."""

from __future__ import annotations

import json

import pytest

from stages.shards.failures import read_failures
from stages.shards.reader import open_rows


@pytest.mark.parametrize("column", ["id", "audio", "speaker", "text"])
def test_half_a_surrogate_pair_is_one_sentence_and_exit_2(
    column, command, pipeline, speech_wav, tmp_path
):
    manifest = tmp_path / "m.jsonl"
    line = {"id": "a", "audio": str(speech_wav), "speaker": "s", "text": "t"}
    manifest.write_text(json.dumps(line | {column: "\ud83d oops"}))
    result = command("tokenize-semantic", manifest, "-k", pipeline.kmeans, "-o", tmp_path / "out")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert f"m.jsonl line 1 has half a surrogate pair in its {column}" in result.err.replace(
        "\n", " "
    )


@pytest.mark.parametrize("audio", ["~nobodyhere/a.wav", "nul\0.wav"])
def test_audio_that_cannot_exist_fails_alone(audio, command, pipeline, speech_wav, tmp_path):
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out"
    lines = [{"id": "bad", "audio": audio}, {"id": "good", "audio": str(speech_wav)}]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    result = command(
        "tokenize-semantic", manifest, "-k", pipeline.kmeans, "-o", output, "--workers", 0
    )
    assert result.code == 1
    assert "Traceback" not in result.err
    assert [failure["id"] for failure in read_failures(output / "failures.jsonl")] == ["bad"]
    assert [row["id"] for row in open_rows(output).rows()] == ["good"]
