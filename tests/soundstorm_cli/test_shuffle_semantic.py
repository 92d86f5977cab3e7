"""The control set: the same tokens after the prompt, in another order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stages.shards.reader import open_rows

REPOSITORY = Path(__file__).resolve().parents[2]


def test_only_the_order_after_the_prompt_changes(pipeline, tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "shuffle_semantic.py"
    output = tmp_path / "shuffled"
    command = [sys.executable, script, pipeline.full, output, "--keep-seconds", "1/2"]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    with open_rows(pipeline.full) as source, open_rows(output) as shuffled:
        before, after = list(source.rows()), list(shuffled.rows())
        spec = source.provenance.require_tokens("semantic", where="full")
        spec.require_same(
            shuffled.provenance.require_tokens("semantic", where="shuffled"), ours="a", theirs="b"
        )
    kept = int(spec.frame_rate / 2)
    for old, new in zip(before, after, strict=True):
        was, now = list(old["semantic"]), list(new["semantic"])
        assert now[:kept] == was[:kept]
        assert now[kept:] != was[kept:]
        assert sorted(now) == sorted(was)
        assert new["id"] == old["id"]
        assert [list(frame) for frame in new["acoustic"]] == [list(f) for f in old["acoustic"]]
