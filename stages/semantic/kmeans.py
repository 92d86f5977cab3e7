"""A k-means that knows which encoder's frames it clusters, and turns them into tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from stages.errors import DataMismatch
from stages.nn.model_file import load_model_file, save_model_file
from stages.semantic.base import SemanticEncoder
from stages.shards.spec import TokenSpec

KIND = "kmeans"


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """How to load the encoder again: the arguments of `load_encoder`."""

    spec: str
    layer: int | None = None
    rate: Fraction | None = None
    reduction: str = "mean"

    def to_json(self) -> dict[str, Any]:
        rate = None if self.rate is None else str(self.rate)
        return {
            "spec": self.spec, "layer": self.layer, "rate": rate, "reduction": self.reduction,
        }  # fmt: skip

    @staticmethod
    def from_json(value: dict[str, Any]) -> EncoderChoice:
        rate = value["rate"]
        return EncoderChoice(
            spec=value["spec"],
            layer=value["layer"],
            rate=None if rate is None else Fraction(rate),
            reduction=value["reduction"],
        )


@dataclass(frozen=True, kw_only=True)
class RefinerChoice:
    """How to load a refiner again: the arguments of `load_refinement`."""

    spec: str
    """`mini` or a folder."""

    unit_to_mel: str
    """What speaks to it, likewise."""

    def to_json(self) -> dict[str, Any]:
        return {"spec": self.spec, "unit_to_mel": self.unit_to_mel}

    @staticmethod
    def from_json(value: dict[str, Any]) -> RefinerChoice:
        return RefinerChoice(spec=value["spec"], unit_to_mel=value["unit_to_mel"])


@dataclass(frozen=True, kw_only=True, eq=False)
class KMeans:
    """Cluster centres over one encoder's frames."""

    centroids: npt.NDArray[np.float32]
    """`[K, D]`."""

    encoder: str
    """The encoder's name, with its layer."""

    encoder_fingerprint: str
    frame_rate: Fraction
    """Of the encoder's frames, so of the tokens."""

    choice: EncoderChoice
    refiner: RefinerChoice | None = None
    """What moved the frames before they were clustered, and moves them before they are assigned
    where nothing else is asked for."""

    report: dict[str, Any] = field(default_factory=dict)
    """How it was fitted: seed, frames, inertia, cluster use."""

    def __post_init__(self) -> None:
        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(self.centroids)
        object.__setattr__(self, "_index", index)

    @property
    def tokens(self) -> TokenSpec:
        """What its tokens are."""
        digest = hashlib.sha256(self.encoder_fingerprint.encode())
        digest.update(repr(self.centroids.shape).encode())
        digest.update(self.centroids.astype("<f4").tobytes())
        return TokenSpec(
            kind="semantic",
            name=f"{self.encoder}+kmeans{len(self.centroids)}",
            fingerprint=digest.hexdigest(),
            frame_rate=self.frame_rate,
            codebook_size=len(self.centroids),
        )

    def assign(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        """The nearest centre of each frame: `[T, D]` to `[T]`."""
        return self.nearest(frames)[0].astype(np.uint16)

    def nearest(
        self, frames: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The nearest centre of each frame and its squared distance: `[T, D]` to two `[T]`."""
        distances, labels = self._index.search(np.ascontiguousarray(frames), 1)  # type: ignore[attr-defined]
        return labels[:, 0], distances[:, 0]

    def require_encoder(self, encoder: SemanticEncoder, *, where: str) -> None:
        """Refuse the frames of another encoder, layer or rate.

        Raises:
            DataMismatch: naming both encoders.
        """
        if encoder.fingerprint == self.encoder_fingerprint and (
            encoder.dim == self.centroids.shape[1]
        ):
            return
        if encoder.name == self.encoder:
            raise DataMismatch(
                f"the k-means {where} was fitted on {self.encoder} with other weights or settings "
                "than this one's: use the encoder it was fitted on, or fit another"
            )
        raise DataMismatch(
            f"the k-means {where} was fitted on {self.encoder}, not on {encoder.name}: use that "
            "encoder and layer, or fit another k-means"
        )


def save_kmeans(kmeans: KMeans, folder: Path) -> None:
    """Write a model folder of kind `kmeans`."""
    save_model_file(
        folder,
        kind=KIND,
        config={
            "encoder": kmeans.encoder,
            "encoder_fingerprint": kmeans.encoder_fingerprint,
            "choice": kmeans.choice.to_json(),
            "refiner": kmeans.refiner and kmeans.refiner.to_json(),
            "frame_rate": str(kmeans.frame_rate),
            "clusters": len(kmeans.centroids),
            "dim": kmeans.centroids.shape[1],
        },
        weights={"centroids": torch.from_numpy(kmeans.centroids)},
        tokens={"semantic": kmeans.tokens.to_json()},
        extra=kmeans.report,
    )


def load_kmeans(folder: Path) -> KMeans:
    """Read a model folder of kind `kmeans`.

    Raises:
        DataMismatch: if it is none, or what it holds does not fit together.
    """
    model = load_model_file(folder, kind=KIND)
    config = model.config
    centroids = model.weights.get("centroids")
    try:
        shape = (config["clusters"], config["dim"])
        if centroids is None or tuple(centroids.shape) != shape:
            raise DataMismatch(
                f"the k-means {folder} does not hold {shape} centroids: fit it again"
            )
        return KMeans(
            centroids=np.ascontiguousarray(centroids.float().numpy()),
            encoder=config["encoder"],
            encoder_fingerprint=config["encoder_fingerprint"],
            frame_rate=Fraction(config["frame_rate"]),
            choice=EncoderChoice.from_json(config["choice"]),
            refiner=RefinerChoice.from_json(refiner)
            if (refiner := config.get("refiner"))
            else None,
            report=model.extra,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataMismatch(f"the k-means {folder} has a malformed config ({error})") from None
