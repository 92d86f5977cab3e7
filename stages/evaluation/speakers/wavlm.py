"""WavLM x-vectors (Chen et al. 2022) in Hugging Face's format, by name or folder.

The paper compares voices with a WavLM speaker verifier (section 4.2).
`microsoft/wavlm-base-plus-sv` is of that family, but not the same network: similarities of two
encoders are not comparable.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import DataMismatch, RowFailure
from stages.evaluation.local_models import means_a_path, reason_of
from stages.evaluation.measure import SAMPLE_RATE
from stages.evaluation.speakers.base import SpeakerEncoder
from stages.shards.provenance import hash_file, hash_json

PREFIX = "wavlm:"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class WavLM(SpeakerEncoder):
    """`WavLMForXVector`: a TDNN with statistics pooling on a weighted sum of WavLM's layers."""

    def __init__(self, model: str, device: str = "cpu") -> None:
        """
        Args:
            model: a name on the hub (`microsoft/wavlm-base-plus-sv`) or a folder with
                `config.json`, `preprocessor_config.json` and the weights.
            device: where it runs.

        Raises:
            DataMismatch: if a folder is named that holds no such model, or transformers is missing.
        """
        if find_spec("transformers") is None:  # it is of another extra than the other measures
            raise DataMismatch(
                f"the speaker encoder {PREFIX}{model} needs transformers, which is not installed: "
                "pip install 'soundstorm[hf]'"
            )
        folder = Path(model).expanduser()
        self._given = str(folder) if folder.is_dir() else model
        self.fingerprint = model
        if folder.is_dir() or means_a_path(model):
            weights = next((name for name in WEIGHTS if (folder / name).is_file()), None)
            names = (CONFIG, PREPROCESSOR, weights or WEIGHTS[0])
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise DataMismatch(
                    f"{model} is no WavLM speaker encoder: it has no {missing[0]}; give a folder "
                    "that save_pretrained wrote, or a name such as microsoft/wavlm-base-plus-sv"
                )
            self.fingerprint = hash_json([hash_file(folder / name) for name in names])
        self._device = device
        self._model: Any = None
        self._extractor: Any = None

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._model is None:
            self._load()
        if not samples.any():
            raise RowFailure("it is silent: there is no voice in it")
        inputs = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            found = self._model(inputs["input_values"].to(self._device)).embeddings[0]  # [D]
            unit: NDArray[np.float32] = torch.nn.functional.normalize(found, dim=0).cpu().numpy()
        return unit

    def _load(self) -> None:
        try:
            with warnings.catch_warnings():  # other people's, which are not for our users
                warnings.simplefilter("ignore")
                from transformers import AutoFeatureExtractor, WavLMForXVector

                self._extractor = AutoFeatureExtractor.from_pretrained(self._given)
                model = WavLMForXVector.from_pretrained(self._given, dtype=torch.float32)
        except Exception as error:  # of downloads, of files that are missing or do not fit
            raise DataMismatch(
                f"the speaker encoder {PREFIX}{self._given} cannot be loaded "
                f"({reason_of(error)}): give a folder that holds one, or a name that can be "
                "downloaded"
            ) from None
        self._model = model.to(self._device).eval()
