"""Speech quality as listeners would rate it, predicted by DNSMOS and by DistillMOS."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.evaluation.measure import SAMPLE_RATE, Clip, Measure, Metric, Scores, third_party


class Quality(Measure):
    """DNSMOS of what follows the prompt, 1 to 5: overall, speech, background (P.835), and P.808."""

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
        self._model: Any = None

    def score(self, clip: Clip) -> Scores:
        samples = np.clip(clip.generated, -1.0, 1.0)  # speechmos refuses louder ones
        with third_party(self.name):
            if self._model is None:
                self._model = _dnsmos()
            values = self._model(samples, SAMPLE_RATE, False)
        return {
            "dnsmos_overall": float(values["ovrl_mos"]),
            "dnsmos_speech": float(values["sig_mos"]),
            "dnsmos_background": float(values["bak_mos"]),
            "dnsmos_p808": float(values["p808_mos"]),
        }


def _dnsmos() -> Any:
    """speechmos's DNSMOS on one thread, since worker processes share the cores (see `judging`)."""
    import onnxruntime
    from speechmos import dnsmos

    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = dnsmos.DNSMOS(*paths)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model.onnx_sess, model.p808_onnx_sess = (
        onnxruntime.InferenceSession(path, options) for path in paths
    )
    return model


class DistilledQuality(Measure):
    """DistillMOS of what follows the prompt, 1 to 5 (Stahl and Gamper 2025): one overall rating.

    It learned from a model on wav2vec 2.0 XLS-R, so it hears other things than DNSMOS does.
    """

    name = "distillmos"
    metrics = (Metric(name="distillmos", title="DistillMOS", higher_is_better=True),)
    packages = ("distillmos",)
    uses_prompt = True

    def __init__(self, device: str = "cpu") -> None:
        self.settings: dict[str, Any] = {"model": "distillmos", "package": _version("distillmos")}
        self._device = device
        self._model: Any = None

    def score(self, clip: Clip) -> Scores:
        if self._model is None:
            with third_party(self.name), redirect_stdout(io.StringIO()):  # it prints a path
                from distillmos import ConvTransformerSQAModel

                self._model = ConvTransformerSQAModel().to(self._device).eval()
        samples = torch.from_numpy(np.ascontiguousarray(clip.generated)).to(self._device)  # [N]
        with torch.inference_mode():
            return {"distillmos": float(self._model(samples[None]))}


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
