"""Prompts: the leading frames of a row, or another speaker's voice in front of it (3.2, 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.errors import DataMismatch, RowFailure
from stages.semantic.rates import align_semantic
from stages.shards.provenance import hash_json
from stages.shards.rows import Row
from stages.soundstorm.decoding import TokenModel

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OwnPrompt:
    """The first seconds of each row's own acoustic tokens; the row is continued from them."""

    seconds: Fraction

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise DataMismatch(f"a prompt of {float(self.seconds)} s is none: leave it out")

    def to_json(self) -> dict[str, Any]:
        return {"own_seconds": str(self.seconds)}


@dataclass(frozen=True, kw_only=True)
class VoicePrompt:
    """Speech whose tokens go in front of every row, so that the row comes in its voice."""

    semantic: Tokens
    """`[S]`: whole semantic frames, which last exactly as long as the acoustic ones."""

    aligned: Tokens
    """`[P]`: the same at the acoustic frame rate."""

    acoustic: Tokens
    """`[P, Q]`, with the model's levels."""

    keep: bool = False
    """Whether a result begins with the voice prompt or with the first generated frame."""

    def to_json(self) -> dict[str, Any]:
        tokens = hash_json([self.semantic.tolist(), self.acoustic.tolist()])
        return {"voice": tokens, "keep": self.keep}


Prompt = OwnPrompt | VoicePrompt


def voice_prompt(
    model: TokenModel, row: Row, *, seconds: Fraction | None, keep: bool, where: str
) -> VoicePrompt:
    """Make a voice prompt of a row that has both kinds of the model's tokens.

    It is cut to the longest time that is a whole number of semantic and of acoustic frames, so
    that the tokens after it fall on the frames they would fall on without it.

    Args:
        model: says rates, levels and codebooks.
        row: with `semantic` and `acoustic`.
        seconds: use no more than these from its start.
        keep: see `VoicePrompt`.
        where: what the row is from, for messages.

    Raises:
        DataMismatch: if tokens are missing, of other lengths, too few, or out of their codebooks.
    """
    semantic, acoustic = row.get("semantic"), row.get("acoustic")
    if semantic is None or acoustic is None:
        raise DataMismatch(f"{where} needs both semantic and acoustic tokens to be a prompt")
    levels = model.levels
    if acoustic.shape[1] < levels:
        raise DataMismatch(
            f"{where} has {acoustic.shape[1]} levels of acoustic tokens while the model needs "
            f"{levels}"
        )
    rate, semantic_rate = model.acoustic.frame_rate, model.semantic.frame_rate
    try:
        aligned = align_semantic(semantic, semantic_rate, len(acoustic), rate)
    except RowFailure as failure:
        raise DataMismatch(f"{where} is no prompt: {failure}") from None
    ratio = rate / semantic_rate  # each `denominator` semantic frames are `numerator` acoustic
    units = min(len(semantic) // ratio.denominator, len(acoustic) // ratio.numerator)
    if units == 0:
        raise DataMismatch(f"{where} is too short to be a prompt: it gives not one whole frame")
    if seconds is not None:
        units = min(units, int(seconds * rate / ratio.numerator))
        if units == 0:
            raise DataMismatch(
                f"--prompt-seconds {float(seconds):g} is too short: it gives not one whole frame, "
                f"of {float(ratio.numerator / rate):g} s"
            )
    frames = units * ratio.numerator
    return VoicePrompt(
        semantic=np.asarray(semantic[: units * ratio.denominator], dtype=np.int64),
        aligned=aligned[:frames],
        acoustic=np.asarray(acoustic[:frames, :levels], dtype=np.int64),
        keep=keep,
    )
