"""torchaudio's speech recognisers as judges: CTC on wav2vec 2.0 or HuBERT, and an RNN-T.

The paper transcribes with a Conformer Transducer (section 4.2); the Emformer RNN-T is torchaudio's
nearest relative.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import DataMismatch
from stages.evaluation.judges.base import Judge
from stages.evaluation.local_models import reason_of
from stages.evaluation.measure import third_party
from stages.shards.provenance import hash_file

PREFIX = "torchaudio:"


class _Pipeline(Judge):
    """A bundle of torchaudio, with its own weights or those of a path."""

    def __init__(
        self, name: str, bundle: Any, files: list[Path], *, language: str, device: str, **more: Any
    ) -> None:
        """
        Args:
            name: of the bundle.
            bundle: itself.
            files: of its weights, where the user says; none to download them.
            language: spoken, two letters.
            device: where it runs.
            more: settings that decide what is heard.
        """
        for file in files:
            if not file.is_file():
                raise DataMismatch(
                    f"{file} does not exist: {PREFIX}{name}=PATH says where its weights are"
                )
        self.name = PREFIX + name
        self.language = language
        weights = {"weights": [hash_file(file) for file in files]} if files else {}
        self.settings: dict[str, Any] = {
            "torchaudio": name,
            "language": language,
            **weights,
            **more,
        }
        self._bundle, self._files = bundle, files
        self._device = torch.device(device)
        self._hear: Any = None

    def __call__(self, samples: NDArray[np.float32]) -> str:
        if self._hear is None:
            with third_party("wer"):
                try:
                    self._hear = self._load()
                except ImportError:
                    raise
                except Exception as error:  # of downloads, and of weights that do not fit
                    raise DataMismatch(
                        f"the weights of {self.name} cannot be had ({reason_of(error)}): name "
                        f"those you have with --judge {self.name}=PATH"
                    ) from None
        with torch.inference_mode():
            return self._transcribe(torch.from_numpy(samples).to(self._device))  # [N]

    @abstractmethod
    def _load(self) -> Any:
        """The model."""

    @abstractmethod
    def _transcribe(self, samples: torch.Tensor) -> str:
        """Words of `[N]` samples."""


class CTCPipeline(_Pipeline):
    """A `Wav2Vec2ASRBundle`, decoded greedily: the best label of each frame, without repeats."""

    def __init__(
        self, name: str, bundle: Any, path: Path | None, *, language: str, device: str
    ) -> None:
        """
        Args:
            name: of the bundle.
            bundle: itself.
            path: of its state dict, as torchaudio publishes it; None to download it.
            language: spoken, two letters.
            device: where it runs.
        """
        super().__init__(name, bundle, [path] if path else [], language=language, device=device)

    def _load(self) -> Any:
        options: dict[str, Any] = {"map_location": "cpu", "weights_only": True, "progress": False}
        for path in self._files:  # where torch would keep its download, so that none is made
            options |= {"model_dir": str(path.parent), "file_name": path.name}
        return self._bundle.get_model(dl_kwargs=options).to(self._device)

    def _transcribe(self, samples: torch.Tensor) -> str:
        logits, _ = self._hear(samples[None])  # [1, T, labels]
        labels = self._bundle.get_labels()
        best = torch.unique_consecutive(logits[0].argmax(dim=-1)).tolist()
        letters = (labels[index] for index in best if index != 0)  # 0 is the blank
        return "".join(letters).replace("|", " ").strip()


class RNNTPipeline(_Pipeline):
    """An `RNNTBundle`, decoded by torchaudio's beam search over the whole clip."""

    packages = ("sentencepiece",)

    def __init__(
        self,
        name: str,
        bundle: Any,
        path: Path | None,
        *,
        language: str,
        device: str,
        beam: int,
    ) -> None:
        """
        Args:
            name: of the bundle.
            bundle: itself.
            path: a folder with the three files that torchaudio publishes, under their own names
                (weights, feature statistics, SentencePiece model); None to download them.
            language: spoken, two letters.
            device: where it runs.
            beam: beam width; 1 is greedy.
        """
        files: list[Path] = []
        if path is not None:
            fields = ("_rnnt_path", "_global_stats_path", "_sp_model_path")
            here = {field: path.resolve() / Path(getattr(bundle, field)).name for field in fields}
            files = list(here.values())
            # The bundle joins these to torch's folder of downloads, which absolute paths pass by.
            bundle = dataclasses.replace(bundle, **{key: str(file) for key, file in here.items()})
        super().__init__(name, bundle, files, language=language, device=device, beam=beam)

    def _load(self) -> Any:
        decoder = self._bundle.get_decoder().to(self._device)
        return (
            self._bundle.get_feature_extractor().to(self._device),
            decoder.eval(),
            self._bundle.get_token_processor(),
        )

    def _transcribe(self, samples: torch.Tensor) -> str:
        extract, decode, spell = self._hear
        features, length = extract(samples)  # [T, mels], [1]
        hypotheses = decode(features, length.to(self._device), self.settings["beam"])
        text: str = spell(hypotheses[0][0])
        return text.strip()


def torchaudio_judge(
    spec: str, *, language: str = "en", beam: int = 1, device: str = "cpu"
) -> Judge:
    """A judge from `NAME` or `NAME=PATH`, a bundle of `torchaudio.pipelines`.

    Args:
        spec: `WAV2VEC2_ASR_BASE_960H=FILE`, `EMFORMER_RNNT_BASE_LIBRISPEECH=FOLDER`, or either
            without a path.
        language: spoken, two letters.
        beam: beam width of an RNN-T; CTC is decoded greedily.
        device: where it runs.

    Raises:
        DataMismatch: if there is no such recogniser, or the path does not exist.
    """
    with third_party("wer"):
        from torchaudio import pipelines
    name, _, given = spec.partition("=")
    path = Path(given).expanduser() if given else None
    bundle = getattr(pipelines, name, None)
    if isinstance(bundle, pipelines.Wav2Vec2ASRBundle):
        return CTCPipeline(name, bundle, path, language=language, device=device)
    if isinstance(bundle, pipelines.RNNTBundle):
        return RNNTPipeline(name, bundle, path, language=language, device=device, beam=beam)
    kinds = (pipelines.Wav2Vec2ASRBundle, pipelines.RNNTBundle)
    known = [key for key in dir(pipelines) if isinstance(getattr(pipelines, key), kinds)]
    raise DataMismatch(
        f"torchaudio has no speech recogniser {name}: choose from {', '.join(known)}"
    )
