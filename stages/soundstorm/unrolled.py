"""Decoding through which gradients pass, to be trained by what comes out of it.

Each level is filled in one pass, as all but the first are in the paper (section 4.1). What counts
forwards is the likeliest code; the gradient is that of the mean of the codebook's entries under the
network's odds (a straight-through estimator, Bengio et al. 2013). Tokens that a later level is
given carry none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.nn.conformer import padding_mask
from stages.soundstorm.decoding import DecodeOptions, DecodeRequest, decode_padded
from stages.soundstorm.network import SoundStorm


@dataclass(frozen=True, kw_only=True)
class PromptedRows:
    """Whole utterances to speak again, each after a prompt of its own."""

    semantic: Tensor
    """`[B, T]` int64, at the acoustic frame rate; void at padding."""

    acoustic: Tensor
    """`[B, T, Q]` int64: the true tokens; any valid ones at padding."""

    lengths: Tensor
    """`[B]` int64 on the CPU, T at least the longest."""

    prompts: Tensor
    """`[B]` int64 on the CPU: leading frames that are given, fewer than the length."""

    def to(self, device: torch.device) -> PromptedRows:
        """With the tokens on a device."""
        return replace(
            self,
            semantic=self.semantic.to(device, non_blocking=True),
            acoustic=self.acoustic.to(device, non_blocking=True),
        )

    def padded(self, multiple: int) -> PromptedRows:
        """With T a multiple of `multiple`."""
        more = -self.acoustic.shape[1] % multiple
        return replace(
            self,
            semantic=F.pad(self.semantic, (0, more)),
            acoustic=F.pad(self.acoustic, (0, 0, 0, more)),
        )

    @property
    def real(self) -> Tensor:
        """`[B, T]` bool on the tokens' device: no padding."""
        return self._before(self.lengths)

    @property
    def generated(self) -> Tensor:
        """`[B, T]` bool on the tokens' device: neither prompt nor padding."""
        return self.real & ~self._before(self.prompts)

    def _before(self, ends: Tensor) -> Tensor:
        frame = torch.arange(self.acoustic.shape[1])
        return (frame < ends[:, None]).to(self.acoustic.device)


def unroll(
    network: SoundStorm,
    rows: PromptedRows,
    codebooks: Tensor,
    *,
    levels: int,
    graded: int,
    first: Tensor | None,
) -> Tensor:
    """Decode rows level by level and sum the entries of their codes.

    Args:
        network: in training, or not.
        rows: what to speak, on the network's device.
        codebooks: `[Q, C, D]`, on the same device.
        levels: levels to decode; finer ones are left out of the sum.
        graded: leading levels through which gradients pass.
        first: `[B, T]` int64, the first level's tokens if it need not be decoded.

    Returns:
        `[B, T, D]`: sums of the chosen entries, of the true ones where frames are given; void at
        padding.
    """
    mask_token = network.config.mask_token
    generated, real = rows.generated, rows.real
    given = real & ~generated
    tokens = rows.acoustic.masked_fill(~given[:, :, None], mask_token)
    padding = padding_mask(rows.lengths, tokens.shape[1])
    padding = None if padding is None else padding.to(tokens.device)
    total = torch.zeros(*generated.shape, codebooks.shape[2], device=tokens.device)
    for level in range(levels):
        passing = level < graded and torch.is_grad_enabled()
        if level == 0 and first is not None:
            codes = torch.where(generated, first, rows.acoustic[..., 0])
            entries = codebooks[0][codes]
        else:
            with torch.set_grad_enabled(passing):
                features = network.features(tokens, rows.semantic, padding)
                logits = network.head(level, features).float()  # [B, T, C]
            codes = torch.where(generated, logits.argmax(dim=-1), rows.acoustic[..., level])
            entries = codebooks[level][codes]
            if passing:
                mean = logits.softmax(dim=-1) @ codebooks[level]
                entries = entries + (mean - mean.detach()) * generated[:, :, None]
        total = total + entries
        tokens = tokens.clone()  # backwards needs those that earlier passes saw
        tokens[..., level] = codes.masked_fill(~real, mask_token)
    return total


@torch.no_grad()
def sample_first(
    network: SoundStorm, rows: PromptedRows, *, passes: int, seeds: Sequence[int]
) -> Tensor:
    """The first level's tokens as parallel decoding samples them.

    Args:
        network: in training, or not.
        rows: what to speak, on the network's device.
        passes: in which the level is filled.
        seeds: of each row.

    Returns:
        `[B, T]` int64, the true ones where they are given.
    """
    ends = zip(rows.lengths.tolist(), rows.prompts.tolist(), seeds, strict=True)
    requests = [
        DecodeRequest(
            row_id=str(seed),
            semantic=rows.semantic[index, :length],
            prompt=rows.acoustic[index, :prompt],
        )
        for index, (length, prompt, seed) in enumerate(ends)
    ]
    training = network.training
    network.eval()
    options = DecodeOptions(iterations=(passes,))
    decoded = decode_padded(network, requests, options, frames=rows.acoustic.shape[1])
    network.train(training)
    tokens = rows.acoustic[..., 0].clone()
    for target, row in zip(tokens, decoded, strict=True):
        target[: len(row.acoustic)] = row.acoustic[:, 0].to(tokens.device)
    return tokens
