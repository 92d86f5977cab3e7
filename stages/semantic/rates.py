"""Which semantic token goes with which acoustic frame, in whole numbers, so nothing drifts.

Semantic frame i of rate r covers the time [i / r, (i + 1) / r). Acoustic frame j takes the
semantic frame that covers its centre, (j + 1/2) / acoustic rate. From 25 Hz to the paper's 50 Hz
that duplicates each token (section 4.1); 50 to 75 Hz, EnCodec's, gives one token, then two.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from stages.errors import RowFailure

TOLERANCE = 2
"""Acoustic frames; encoders drop what does not fill their last window, codecs pad it."""


def frame_map(
    frames: int, semantic_rate: Fraction, acoustic_rate: Fraction
) -> npt.NDArray[np.int64]:
    """The semantic frame at the centre of each acoustic frame, `[frames]`.

    Args:
        frames: how many acoustic frames.
        semantic_rate: Hz.
        acoustic_rate: Hz.
    """
    # floor((j + 1/2) * semantic rate / acoustic rate), without a float.
    ratio = semantic_rate / acoustic_rate / 2
    doubled_centres = 2 * np.arange(frames, dtype=np.int64) + 1
    return doubled_centres * ratio.numerator // ratio.denominator


def align_semantic(
    semantic: npt.ArrayLike,
    semantic_rate: Fraction,
    frames: int,
    acoustic_rate: Fraction,
    *,
    tolerance: int = TOLERANCE,
) -> npt.NDArray[np.int64]:
    """Bring semantic tokens to the rate and length of an utterance's acoustic frames.

    Where the semantic tokens end a little early, the last one is repeated.

    Args:
        semantic: `[S]` tokens.
        semantic_rate: Hz, exact.
        frames: T, acoustic frames of the same utterance.
        acoustic_rate: Hz, exact.
        tolerance: acoustic frames by which the two may differ in length, beyond the one semantic
            frame to which lengths are rounded.

    Returns:
        `[T]` int64: the semantic token of each acoustic frame.

    Raises:
        RowFailure: if the lengths differ by more, so that they cannot be of one utterance.
    """
    tokens = np.asarray(semantic, dtype=np.int64)
    expected = len(tokens) * acoustic_rate / semantic_rate  # acoustic frames, exact
    allowed = tolerance + acoustic_rate / semantic_rate
    if len(tokens) == 0 or frames < 0 or abs(expected - frames) > allowed:
        raise RowFailure(
            f"{len(tokens)} semantic tokens at {semantic_rate} Hz last "
            f"{float(len(tokens) / semantic_rate):.3f} s but {frames} acoustic frames at "
            f"{acoustic_rate} Hz last {float(frames / acoustic_rate):.3f} s: they are not of one "
            "utterance"
        )
    indices = frame_map(frames, semantic_rate, acoustic_rate)
    return tokens[np.minimum(indices, len(tokens) - 1)]
