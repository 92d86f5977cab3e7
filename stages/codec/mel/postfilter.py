"""What hides the noise of quantised mel frames before Griffin-Lim.

Postfilters that lower what lies between the loud parts are as old as speech codecs at low rates
(Chen and Gersho, 1995); here on log-mel frames, where that is a gain. `docs/vocoding.md` says what
it is worth.
"""

from __future__ import annotations

import math

from torch import Tensor

CONTRAST = 1.25
"""Factor of how far a band lies under its own loud level: 1 changes nothing."""

LOUD = 0.9
"""The quantile over an utterance that is a band's loud level."""


def postfilter(mel: Tensor) -> Tensor:
    """Deepen the contrast of one utterance's frames.

    Args:
        mel: log-mel, `[T, M]` with T at least 1.

    Returns:
        `[T, M]`: in each band what is quieter than its loud level is quieter still.
    """
    loud = mel.kthvalue(math.ceil(LOUD * len(mel)), dim=0).values  # [M]
    return mel + (CONTRAST - 1) * (mel - loud).clamp_max(0)
