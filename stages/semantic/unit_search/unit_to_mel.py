"""The network that speaks units: log-mel frames of their centroids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.nn.model_file import ModelFile, load_model_file, load_weights
from stages.semantic.speaking import Speaker
from stages.semantic.unit_search.config import UnitNetworkConfig, require_points_of


@dataclass(frozen=True, kw_only=True)
class UnitToMelConfig(UnitNetworkConfig):
    """Shape of the network."""

    kind = "unit-to-mel"

    def build(self) -> Speaker:
        """A network of this shape, with random weights."""
        return Speaker(self.conformer, dim=self.dim, stack=self.stack, mels=self.mels)


def load_unit_to_mel(folder: Path) -> tuple[Speaker, UnitToMelConfig, ModelFile]:
    """Read a model folder of kind `unit-to-mel`.

    Raises:
        DataMismatch: if it is none, or its weights do not fit its configuration.
    """
    file = load_model_file(folder, kind=UnitToMelConfig.kind)
    config = UnitToMelConfig.from_json(file.config, where=str(folder))
    network = config.build()
    load_weights(network, file.weights, folder)
    return network.eval(), config, file


def load_speaker_of(folder: Path, encoder: str) -> tuple[Speaker, UnitToMelConfig, ModelFile]:
    """Read a model folder of kind `unit-to-mel` that speaks an encoder's points.

    Args:
        folder: of the model.
        encoder: the encoder's fingerprint (`KMeans.encoder_fingerprint`).

    Raises:
        DataMismatch: if it is none, or of another encoder's.
    """
    speaker, config, file = load_unit_to_mel(folder)
    require_points_of(
        file,
        encoder,
        refusal=f"{folder} speaks the units of another encoder: train a unit-to-mel model for "
        "these, and name it with --unit-to-mel (recipe.unit_to_mel in training)",
    )
    return speaker, config, file
