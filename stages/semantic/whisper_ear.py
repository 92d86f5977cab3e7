"""Whisper's encoder in torch, through which gradients pass: what a sound means to a recogniser.

`encoders/whisper.py` runs the same weights faster, without gradients.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import DataMismatch
from stages.nn.ctranslate2 import read_ctranslate2

SAMPLE_RATE = 16_000
HOP = 160
"""Samples of a frame: 100 frames a second, two of which make one of the encoder's."""

HEARD_SECONDS = 30
"""Of sound that Whisper hears at once, at most."""

_FFT = 400
_RANGE = 2.0
"""Levels so far under an utterance's loudest are cut: 8 powers of ten, in Whisper's unit of 4."""

_HEAD_WIDTH = 64
"""Of all sizes of Whisper."""


class WhisperMel(nn.Module):
    """The log-mel frames that Whisper reads (Radford et al. 2022, section 2.2)."""

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int = 80) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        filters = melscale_fbanks(
            _FFT // 2 + 1,
            0.0,
            SAMPLE_RATE / 2,
            mels,
            SAMPLE_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """`[B, N]` float32 to `[B, ceil(N / 160), mels]`; a row's loudest level sets its floor."""
        padded = F.pad(samples, (0, -samples.shape[1] % HOP))
        spectrum = torch.stft(
            padded, _FFT, HOP, window=self.window, center=True, return_complex=True
        )[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()  # [B, fft / 2 + 1, T]
        with torch.autocast(power.device.type, enabled=False):
            levels = (power.transpose(1, 2) @ self.filters).clamp_min(1e-10).log10() / 4 + 1
        return levels.maximum(levels.amax(dim=(1, 2), keepdim=True) - _RANGE)


class WhisperEar(nn.Module):
    """The encoder of a Whisper of any size, frozen."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Build it from CTranslate2's variables of the encoder, by their names there."""
        super().__init__()
        blocks = {name.split("/")[1] for name in weights if "/self_attention/" in name}
        self.layers = len(blocks)
        self.mels = weights["encoder/conv1/weight"].shape[1]
        self.width = weights["encoder/conv1/weight"].shape[0]
        for name, value in weights.items():
            self.register_buffer(_attribute(name), value, persistent=False)

    def forward(self, levels: Tensor) -> list[Tensor]:
        """What each block makes of log-mel frames, the last one's after the final norm.

        Args:
            levels: `[B, 2 T, mels]` of `WhisperMel`, at most `HEARD_SECONDS`.

        Returns:
            `[B, T, D]` of each block.
        """
        x = levels.transpose(1, 2)
        x = F.gelu(F.conv1d(x, self._at("conv1/weight"), self._at("conv1/bias"), padding=1))
        x = F.conv1d(x, self._at("conv2/weight"), self._at("conv2/bias"), stride=2, padding=1)
        x = F.gelu(x).transpose(1, 2)
        x = x + self._at("position_encodings/encodings")[: x.shape[1]]
        heard = []
        for index in range(self.layers):
            block = f"layer_{index}/"
            x = x + self._attend(self._norm(x, f"{block}self_attention/layer_norm"), block)
            inner = self._linear(self._norm(x, f"{block}ffn/layer_norm"), f"{block}ffn/linear_0")
            x = x + self._linear(F.gelu(inner), f"{block}ffn/linear_1")
            heard.append(x)
        return [*heard[:-1], self._norm(x, "layer_norm")]

    def _attend(self, x: Tensor, block: str) -> Tensor:
        qkv = self._linear(x, f"{block}self_attention/linear_0")  # [B, T, 3 D]
        B, T, _ = x.shape
        q, k, v = qkv.view(B, T, 3, -1, _HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self._linear(attended, f"{block}self_attention/linear_1")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._at(f"{name}/weight"), self._at(f"{name}/bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gamma, beta = self._at(f"{name}/gamma"), self._at(f"{name}/beta")
        return F.layer_norm(x, (self.width,), gamma, beta)

    def _at(self, name: str) -> Tensor:
        value: Tensor = self.get_buffer(_attribute(f"encoder/{name}"))
        return value


def _attribute(name: str) -> str:
    """A variable's name as torch lets an attribute be called."""
    return name.replace("/", "_")


def load_ear(folder: Path) -> WhisperEar:
    """Read the encoder of a Whisper in CTranslate2's format, as `make whisper` fetches them.

    Raises:
        DataMismatch: if the folder holds none.
    """
    weights = read_ctranslate2(folder / "model.bin", prefix="encoder/")
    if "encoder/conv1/weight" not in weights:
        raise DataMismatch(f"{folder} holds no Whisper model, but another one of CTranslate2's")
    return WhisperEar(weights)
