"""The toolkit's own networks, BEST-RQ's, students and bottlenecks, as semantic encoders."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stages.errors import DataMismatch
from stages.nn.model_file import ModelFile, read_model_config
from stages.semantic.base import Frames, SemanticEncoder
from stages.semantic.best_rq import KIND as BEST_RQ
from stages.semantic.best_rq import load_best_rq
from stages.semantic.bottleneck import KIND as BOTTLENECK
from stages.semantic.bottleneck import Bottleneck, load_bottleneck
from stages.semantic.encoders.layers import pick_layer
from stages.semantic.speech_conformer import SpeechConformer
from stages.semantic.student import KIND as STUDENT
from stages.semantic.student import load_student
from stages.shards.provenance import hash_json


class OwnEncoder(SemanticEncoder):
    """A layer of a network that `train --model best-rq` or `--model student` made, or the points of
    one that `--model bottleneck` made."""

    def __init__(self, folder: Path, *, layer: int | None = None, device: str = "cpu") -> None:
        """Load a model folder; `layer` is 1-based.

        By default it is the middle one of BEST-RQ (its last ones serve its random codes), and the
        last of a student, which is nearest to its teacher. A bottleneck has none to choose.

        Raises:
            DataMismatch: if it is no such model, or has no such layer.
        """
        kind, network, file = _load(folder)
        self.sample_rate = network.config.sample_rate
        self.frame_rate = network.config.frame_rate
        if isinstance(network, Bottleneck):
            if layer is not None:
                raise DataMismatch(f"{folder} gives its points, not a layer: leave --layer out")
            self._encode = network.points
            self.name = kind
            self.fingerprint = hash_json([kind, file.fingerprint])
            self.dim = network.config.dim
        else:
            count = network.config.layers
            default = (count + 1) // 2 if kind == BEST_RQ else count
            layer = pick_layer(layer, count=count, default=default, where=str(folder))
            del network.conformer.blocks[layer:]
            self._encode = partial(network.encode, layer=layer)
            self.name = f"{kind}:{layer}"
            self.fingerprint = hash_json([kind, file.fingerprint, layer])
            self.dim = network.config.width
        network.to(device)
        self._device = torch.device(device)

    @torch.inference_mode()
    def encode(self, samples: Tensor, lengths: Tensor) -> Frames:
        """Encode `[B, N]` into `[B, T, D]` with T = ceil(N / hop)."""
        values, counts = self._encode(samples.to(self._device), lengths.to(self._device))
        return Frames(values=values, lengths=counts)


def _load(folder: Path) -> tuple[str, SpeechConformer, ModelFile]:
    kind = read_model_config(folder)["kind"]
    if kind == BEST_RQ:
        return kind, *load_best_rq(folder)
    if kind == STUDENT:
        return kind, *load_student(folder)
    if kind == BOTTLENECK:
        return kind, *load_bottleneck(folder)
    raise DataMismatch(
        f"{folder} holds a {kind} model, which is no semantic encoder: give the folder of a "
        "best-rq, student or bottleneck model"
    )
