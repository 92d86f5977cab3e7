"""What sharpens mel frames before Griffin-Lim: quantising and averaging blur them.

Postfilters that raise spectral peaks over valleys, and so hide the noise between them, are as old
as speech codecs at low rates (Chen and Gersho, 1995); here on log-mel frames, where that is a
gain. `docs/models.md` says what it is worth.
"""

from __future__ import annotations

import math

from torch import Tensor

SHARPNESS = 1.2
"""Factor of the cepstra from `FIRST_SHARPENED` on: 1 changes nothing."""

FIRST_SHARPENED = 3
"""The first of them: those before are loudness and tilt, which are kept."""

CONTRAST = 1.25
"""Factor of how far a band lies under its own loud level: 1 changes nothing."""

LOUD = 0.9
"""The quantile over an utterance that is a band's loud level."""


def postfilter(mel: Tensor) -> Tensor:
    """Sharpen the frames of one utterance.

    Args:
        mel: log-mel, `[T, M]` with T at least 1.

    Returns:
        `[T, M]`. Peaks rise over valleys within a frame, and in each band what is quieter than
        its loud level becomes quieter still.
    """
    from torchaudio.functional import create_dct

    bands = mel.shape[1]
    basis = create_dct(bands, bands, norm="ortho").to(mel)[:, FIRST_SHARPENED:]  # [M, K]
    mel = mel + (SHARPNESS - 1) * (mel @ basis) @ basis.T
    loud = mel.kthvalue(math.ceil(LOUD * len(mel)), dim=0).values  # [M]
    return mel + (CONTRAST - 1) * (mel - loud).clamp_max(0)
