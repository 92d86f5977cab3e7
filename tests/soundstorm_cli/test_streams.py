"""Standard streams that are closed or on a full disk."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.shards.pipes import open_stream
from stages.shards.reader import open_rows

FULL = b"soundstorm: standard output cannot be written (No space left on device)\n"
CLOSED = b"soundstorm: standard output cannot be written (Bad file descriptor)\n"


def bash(arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of this checkout, whose arguments are bash with redirections."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -W ignore -m soundstorm_cli {arguments}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokens(speech_wav: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of one row, made in the ordinary way."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.parquet"
    assert bash(f"tokenize-semantic {speech_wav} -o {path} --workers 0").returncode == 0
    return path


@pytest.mark.parametrize(
    ("stream", "sentence"), [("/dev/full", FULL), ("&-", CLOSED)], ids=["full", "closed"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        "tokenize-semantic {wav} --workers 0 -q",
        "tokenize-semantic {wav} --workers 0 -q --json -o {tokens}",
        "inspect {tokens}",
        "--help",
    ],
)
def test_what_cannot_be_written_is_told(
    arguments: str, stream: str, sentence: bytes, speech_wav: Path, tokens: Path
) -> None:
    result = bash(arguments.format(wav=speech_wav, tokens=tokens) + f" >{stream}")
    assert result.stderr == sentence
    assert result.returncode == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_shards_need_no_standard_streams(
    closed: str, speech_wav: Path, tokens: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.parquet"
    result = bash(f"tokenize-semantic {speech_wav} -o {path} --workers 1 {closed}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == b""
    assert b"Traceback" not in result.stderr
    assert path.read_bytes() == tokens.read_bytes()


def test_a_closed_standard_error_only_silences(
    speech_wav: Path, tokens: Path, tmp_path: Path
) -> None:
    result = bash(f"tokenize-semantic {speech_wav} --workers 1 2>&-")
    assert result.returncode == 0
    with open_stream(io.BytesIO(result.stdout), where="the test") as source:
        [streamed] = source.rows()
    [row] = open_rows(tokens).rows()
    assert streamed["semantic"].tolist() == row["semantic"].tolist()
    result = bash(f"tokenize-semantic {tmp_path}/none.wav -o {tmp_path}/out 2>&-")
    assert (result.returncode, result.stdout) == (2, b"")
