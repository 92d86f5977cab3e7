"""What a command does not import, since each start of it would wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).parents[2]
SLOW = {"torch._dynamo", "pyarrow.compute"}
CODE = """
import sys
from soundstorm_cli.main import run
try:
    run(sys.argv[1:])
except SystemExit as ended:
    print(ended.code, *sys.modules)
"""


def test_decoding_imports_nothing_slow_that_it_has_no_use_for(
    pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [
            sys.executable, "-c", CODE, "decode", pipeline.full, "-o", tmp_path / "decoded",
            "--model", pipeline.model, "--device", "cpu", "--quiet",
        ],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    code, *modules = ended.stdout.split()
    assert code in ("0", "None"), ended.stderr
    assert list((tmp_path / "decoded").glob("*.parquet"))
    assert "torch" in modules
    assert SLOW & set(modules) == set()
