"""Weights in fewer bits: what is rounded, by how much, and what stays."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from stages.nn.model_file import WEIGHTS_NAME, load_model_file, save_model_file
from stages.nn.saved_weights import as_loaded, as_saved

GENERATOR = torch.Generator().manual_seed(3)
WEIGHTS = {
    "map.weight": torch.randn(32, 64, generator=GENERATOR) * torch.logspace(-3, 1, 32)[:, None],
    "map.bias": torch.randn(32, generator=GENERATOR),
    "tables": torch.randn(3, 20, 16, generator=GENERATOR) * torch.tensor([[[9.0]], [[1]], [[0.1]]]),
    "pointwise": torch.randn(8, 32, 1, generator=GENERATOR),
    "depthwise": torch.randn(32, 1, 5, generator=GENERATOR),
    "silent": torch.zeros(4, 16),
    "codebook": torch.randn(8, 16, generator=GENERATOR),
    "count": torch.arange(4),
}  # fmt: skip


def test_each_row_is_within_half_a_step_of_its_own_scale() -> None:
    saved = as_saved(WEIGHTS, "int8", exact=("codebook",))
    loaded = as_loaded(saved)
    assert loaded.keys() == WEIGHTS.keys()
    assert {name for name, value in saved.items() if value.dtype == torch.int8} == {
        "map.weight", "tables", "pointwise", "silent",
    }  # fmt: skip
    for name in ("map.weight", "tables"):
        rows = WEIGHTS[name].flatten(0, -2)
        step = rows.abs().amax(dim=1, keepdim=True) / 127
        off = (loaded[name].flatten(0, -2) - rows).abs()
        assert bool((off <= 0.5001 * step).all()), name
        assert float(off.max()) > 0
    assert torch.equal(loaded["silent"], WEIGHTS["silent"])
    for name in ("map.bias", "depthwise"):
        assert torch.equal(loaded[name], WEIGHTS[name].half().float())
    assert torch.equal(loaded["codebook"], WEIGHTS["codebook"])
    assert torch.equal(loaded["count"], WEIGHTS["count"])


def test_float32_is_left_alone() -> None:
    saved = as_saved(WEIGHTS, "float32")
    assert all(saved[name] is value for name, value in WEIGHTS.items())


def test_a_model_folder_of_8_bits_is_loaded_as_float32(tmp_path: Path) -> None:
    weights = {"map.weight": torch.randn(64, 256, generator=GENERATOR)}
    for precision in ("float32", "int8"):
        save_model_file(
            tmp_path / precision, kind="test", config={}, weights=as_saved(weights, precision)
        )
    sizes = [(tmp_path / name / WEIGHTS_NAME).stat().st_size for name in ("float32", "int8")]
    assert sizes[1] < 0.27 * sizes[0]
    assert load_file(tmp_path / "int8" / WEIGHTS_NAME)["map.weight"].dtype == torch.int8
    (name, value), *others = load_model_file(tmp_path / "int8").weights.items()
    assert (name, value.dtype, others) == ("map.weight", torch.float32, [])
    torch.testing.assert_close(value, weights["map.weight"], rtol=0, atol=0.02)
