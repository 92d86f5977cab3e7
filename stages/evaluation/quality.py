"""Speech quality as listeners would rate it, predicted by DNSMOS (P.835 and P.808)."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.evaluation.measure import SAMPLE_RATE, Clip, Measure, Metric, Scores, third_party


class Quality(Measure):
    """DNSMOS of what follows the prompt, 1 to 5: overall, speech, background, and P.808."""

    name = "dnsmos"
    metrics = (
        Metric(name="dnsmos_overall", title="DNSMOS", higher_is_better=True),
        Metric(name="dnsmos_speech", title="SIG", higher_is_better=True, in_table=False),
        Metric(name="dnsmos_background", title="BAK", higher_is_better=True, in_table=False),
        Metric(name="dnsmos_p808", title="P.808", higher_is_better=True, in_table=False),
    )
    packages = ("speechmos", "librosa", "onnxruntime")
    uses_prompt = True

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"model": "dnsmos", "package": _version("speechmos")}
        self._run: Any = None

    def score(self, clip: Clip) -> Scores:
        samples = np.clip(clip.generated, -1.0, 1.0)  # speechmos refuses louder ones
        with third_party(self.name):
            if self._run is None:
                from speechmos import dnsmos

                self._run = dnsmos.run
            values = self._run(samples, sr=SAMPLE_RATE)
        return {
            "dnsmos_overall": float(values["ovrl_mos"]),
            "dnsmos_speech": float(values["sig_mos"]),
            "dnsmos_background": float(values["bak_mos"]),
            "dnsmos_p808": float(values["p808_mos"]),
        }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
