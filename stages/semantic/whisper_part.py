"""Whisper's weights in torch, and the parts that its encoder and its decoder are made of."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.ctranslate2 import read_ctranslate2

_HEAD_WIDTH = 64
"""Of all sizes of Whisper."""


class WhisperPart(nn.Module):
    """The encoder or the decoder of a Whisper of any size, frozen: blocks of attention and a
    feed-forward network.

    Args:
        weights: CTranslate2's variables of the part, by their names there.
        part: `encoder` or `decoder`.
    """

    def __init__(self, weights: dict[str, Tensor], part: str) -> None:
        super().__init__()
        self._part = part
        blocks = {name.split("/")[1] for name in weights if "/self_attention/" in name}
        self.layers = len(blocks)
        for name, value in weights.items():
            self.register_buffer(_attribute(name), value, persistent=False)

    def attend_self(self, x: Tensor, block: str, *, causal: bool = False) -> Tensor:
        """What attention among `[B, T, D]` adds to them."""
        normed = self.norm(x, f"{block}/self_attention/layer_norm")
        q, k, v = self.linear(normed, f"{block}/self_attention/linear_0").chunk(3, dim=-1)
        return self.linear(_attend(q, k, v, causal=causal), f"{block}/self_attention/linear_1")

    def feed_forward(self, x: Tensor, block: str) -> Tensor:
        """What the feed-forward network adds to `[B, T, D]`."""
        inner = self.linear(self.norm(x, f"{block}/ffn/layer_norm"), f"{block}/ffn/linear_0")
        return self.linear(F.gelu(inner), f"{block}/ffn/linear_1")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.at(f"{name}/weight"), self.at(f"{name}/bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        gamma, beta = self.at(f"{name}/gamma"), self.at(f"{name}/beta")
        return F.layer_norm(x, gamma.shape, gamma, beta)

    def at(self, name: str) -> Tensor:
        """A variable of this part."""
        value: Tensor = self.get_buffer(_attribute(f"{self._part}/{name}"))
        return value

    def attend_other(self, x: Tensor, other: Tensor, block: str) -> Tensor:
        """What attention of `[B, L, D]` to another's `[B, T, D]` adds to them."""
        q = self.linear(
            self.norm(x, f"{block}/attention/layer_norm"), f"{block}/attention/linear_0"
        )
        k, v = self.linear(other, f"{block}/attention/linear_1").chunk(2, dim=-1)
        return self.linear(_attend(q, k, v), f"{block}/attention/linear_2")


def read_part(folder: Path, part: str, *, needed: str) -> dict[str, Tensor]:
    """The variables of a Whisper's `encoder` or `decoder`, for `WhisperPart`.

    Args:
        folder: of a model in CTranslate2's format.
        part: which of the two.
        needed: a variable of the part without which it is none.

    Raises:
        DataMismatch: if the folder holds no Whisper.
    """
    weights = read_ctranslate2(folder / "model.bin", prefix=f"{part}/")
    if f"{part}/{needed}" not in weights:
        raise DataMismatch(f"{folder} holds no Whisper model, but another one of CTranslate2's")
    return weights


def _attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Attention of several heads: `[B, L, D]`, `[B, T, D]` and `[B, T, D]` to `[B, L, D]`."""
    q, k, v = (x.view(*x.shape[:2], -1, _HEAD_WIDTH).transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return attended.transpose(1, 2).flatten(-2)


def _attribute(name: str) -> str:
    """A variable's name as torch lets an attribute be called."""
    return name.replace("/", "_")
