"""The toolkit's own networks, BEST-RQ's and students, as semantic encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.model_file import ModelFile, read_model_config
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.best_rq import KIND as BEST_RQ
from stages.semantic.best_rq import load_best_rq
from stages.semantic.encoders.layers import pick_layer
from stages.semantic.speech_conformer import SpeechConformer
from stages.semantic.student import KIND as STUDENT
from stages.semantic.student import load_student
from stages.shards.provenance import hash_json


class OwnEncoder(SemanticEncoder):
    """A layer of a network that `train --model best-rq` or `--model student` made."""

    def __init__(self, folder: Path, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load a model folder; `layer` is 1-based.

        By default it is the middle one of BEST-RQ (its last ones serve its random codes), and the
        last of a student, which is nearest to its teacher.

        Raises:
            DataMismatch: if it is no such model, or has no such layer.
        """
        kind, network, file = _load(folder)
        count = network.config.layers
        default = (count + 1) // 2 if kind == BEST_RQ else count
        self._layer = pick_layer(layer, count=count, default=default, where=str(folder))
        del network.conformer.blocks[self._layer :]
        self._network = network.to(device)
        self._device = torch.device(device)
        self.name = f"{kind}:{self._layer}"
        self.fingerprint = hash_json([kind, file.fingerprint, self._layer])
        self.sample_rate = network.config.sample_rate
        self.frame_rate = network.config.frame_rate
        self.dim = network.config.width

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]` with T = ceil(N / hop)."""
        values, counts = self._network.encode(
            samples.to(self._device), lengths.to(self._device), layer=self._layer
        )
        return Frames(values=values, lengths=counts)


def _load(folder: Path) -> tuple[str, SpeechConformer, ModelFile]:
    kind = read_model_config(folder)["kind"]
    if kind == BEST_RQ:
        return kind, *load_best_rq(folder)
    if kind == STUDENT:
        return kind, *load_student(folder)
    raise DataMismatch(
        f"{folder} holds a {kind} model, which is no semantic encoder: give the folder of a "
        "best-rq or student model"
    )
