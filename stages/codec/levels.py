"""How many levels of a residual quantiser a user asks for: by count or by bit rate."""

from __future__ import annotations

import math
from fractions import Fraction

from stages.errors import DataMismatch


def choose_levels(
    *,
    name: str,
    available: int,
    frame_rate: Fraction,
    codebook_size: int,
    default: int,
    levels: int | None = None,
    bitrate: float | None = None,
) -> int:
    """Q from `levels`, or the most that fit in `bitrate`, or the codec's default.

    Args:
        name: the codec, for messages.
        available: levels that the codec has.
        frame_rate: frames a second.
        codebook_size: C; a level costs frame_rate x log2(C) bits a second.
        default: Q when neither is given.
        levels: Q, if it was asked for.
        bitrate: kbit/s, if that was asked for.

    Raises:
        DataMismatch: if both were given, or what was asked for is none or more than there is.
    """
    if levels is not None and bitrate is not None:
        raise DataMismatch("give --levels or --bitrate, not both: each decides the other")
    if bitrate is not None:
        if not (math.isfinite(bitrate) and bitrate > 0):
            raise DataMismatch(f"a bit rate of {bitrate} kbit/s is none: give a positive number")
        # The decimal a user typed, exactly: 0.1 + 0.2 must not cost a level.
        bits = Fraction(str(bitrate)) * 1000
        levels = math.floor(bits / (frame_rate * Fraction(str(math.log2(codebook_size)))))
    if levels is None:
        return default
    if not 1 <= levels <= available:
        kilobits = float(frame_rate) * math.log2(codebook_size) / 1000
        raise DataMismatch(
            f"{name} has 1 to {available} levels of {kilobits:g} kbit/s each "
            f"(up to {kilobits * available:g}); {levels} cannot be had"
        )
    return levels
