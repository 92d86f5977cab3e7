"""Reading CTranslate2's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import DataMismatch
from stages.nn.ctranslate2 import read_ctranslate2
from tests.tiny_whisper import write_ctranslate2

MATRIX = np.array([[1.0, -0.5], [0.25, 0.125]], np.float32)


def test_all_types_come_as_floats_and_int8_as_what_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_ctranslate2(
        path,
        {
            "encoder/plain": MATRIX,
            "encoder/half": MATRIX.astype(np.float16),
            "encoder/whole": (MATRIX * np.array([[127.0], [508.0]])).round().astype(np.int8),
            "encoder/whole_scale": np.array([127.0, 508.0], np.float32),
            "encoder/heads": np.array(3, np.int16),
            "decoder/other": MATRIX,
        },
    )
    found = read_ctranslate2(path, prefix="encoder/")
    assert set(found) == {f"encoder/{name}" for name in ("plain", "half", "whole", "heads")}
    assert all(value.dtype == torch.float32 for value in found.values())
    expected = torch.from_numpy(MATRIX)
    assert torch.equal(found["encoder/plain"], expected)
    assert torch.equal(found["encoder/half"], expected)
    torch.testing.assert_close(found["encoder/whole"], expected, rtol=0, atol=0.004)
    assert float(found["encoder/heads"]) == 3


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.bin"
    if damage == "cut":
        write_ctranslate2(path, {"encoder/plain": MATRIX})
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "other":
        path.write_bytes(b"not at all, but long enough for a header " * 3)
    with pytest.raises(DataMismatch, match="CTranslate2 model"):
        read_ctranslate2(path, prefix="encoder/")
