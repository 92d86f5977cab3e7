"""EnCodec (Défossez et al., 2022) at 24 and 48 kHz, through the encodec package.

24 kHz is mono and causal at 75 frames a second; 48 kHz is stereo at 150. Two things of the
package's 48 kHz model do not fit into a column of tokens, and are decided here:

- It cuts audio into seconds that overlap by 1 %, so that frames would come at 150 / 0.99 Hz. Here
  an utterance is one segment (the package's own `segment=None`): 150 Hz exactly, without seams.
- It divides each segment by its loudness (RMS over time of the mean channel), which it keeps apart
  from the tokens. Here that scale is dropped, and decoding gives every utterance the loudness
  `LOUDNESS`; the shape of an utterance in time is in the tokens.
"""

from __future__ import annotations

import hashlib
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.codec.levels import choose_levels
from stages.errors import DataMismatch, StageFailure
from stages.shards.provenance import hash_json

LOUDNESS = 0.1
"""RMS that a decoded 48 kHz utterance is given, -20 dB of full scale: usual for speech."""

DEFAULT_KILOBITS = 6.0
"""As in the package's command."""

MODELS = ("encodec_24khz", "encodec_48khz")


class EncodecCodec(Codec):
    """One of EnCodec's two models, with the package's weights or a local checkpoint.

    Rows are run one at a time: the models pad by reflection at an utterance's own end, and the
    48 kHz model normalises over the whole of it.

    Raises:
        DataMismatch: if the model is unknown or the checkpoint is not one of it.
        StageFailure: if the package's weights cannot be fetched.
    """

    def __init__(
        self,
        model: str,
        *,
        checkpoint: Path | None = None,
        levels: int | None = None,
        bitrate: float | None = None,
        device: str = "cpu",
    ) -> None:
        if model not in MODELS:
            raise DataMismatch(f"{model} is no EnCodec model: use {' or '.join(MODELS)}")
        network = _build(model, checkpoint)
        self.name = model if checkpoint is None else f"{model}:{checkpoint}"
        digest = _hash_weights(network)
        self.models = {model: digest}
        self.fingerprint = hash_json({"codec": model, "weights": digest})
        self.decoder_fingerprint = hash_json([self.fingerprint, LOUDNESS])
        self.sample_rate, self.channels = network.sample_rate, network.channels
        self.frame_rate = Fraction(network.sample_rate, network.encoder.hop_length)
        self.codebook_size = network.quantizer.bins
        bits_of_level = self.frame_rate * network.bits_per_codebook
        self.levels = choose_levels(
            name=self.name,
            available=network.quantizer.n_q,
            frame_rate=self.frame_rate,
            codebook_size=self.codebook_size,
            default=int(Fraction(DEFAULT_KILOBITS) * 1000 / bits_of_level),
            levels=levels,
            bitrate=bitrate,
        )
        network.segment = None
        # The package turns kbit/s into levels; this many gives it exactly ours.
        network.bandwidth = float(bits_of_level * self.levels / 1000)
        self._network = network.to(device)
        self._device = device

    @torch.no_grad()
    def encode(self, audio: AudioBatch) -> AcousticTokens:
        """`[B, C, N]` to `[B, ceil(N / 320), Q]`."""
        lengths = torch.tensor([self.frames_of(int(length)) for length in audio.lengths])
        longest = int(lengths.max()) if len(lengths) else 0
        codes = torch.zeros(len(lengths), longest, self.levels, dtype=torch.int64)
        for row, length, target in zip(audio.samples, audio.lengths, codes, strict=True):
            if int(length) == 0:
                continue
            # A copy, since where a row lies in memory may change the last bits of its sums.
            samples = row[None, :, : int(length)].clone().to(self._device)  # [1, C, N]
            ((found, _scale),) = self._network.encode(samples)  # [1, Q, T]
            target[: found.shape[2]] = found[0].T.cpu()
        return AcousticTokens(codes=codes, lengths=lengths)

    @torch.no_grad()
    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        """`[B, T, Q]` to `[B, C, T x 320]`."""
        batch, frames, levels = tokens.codes.shape
        if levels > self._network.quantizer.n_q:
            raise DataMismatch(
                f"{self.name} has {self._network.quantizer.n_q} levels, and these tokens {levels}"
            )
        samples = torch.zeros(batch, self.channels, frames * self.hop)
        for row, length, target in zip(tokens.codes, tokens.lengths, samples, strict=True):
            if int(length) == 0:
                continue
            codes = row[: int(length)].T[None].to(self._device)  # [1, Q, T]
            made = self._network.decode([(codes, self._scale())])[0].cpu()  # [C, N]
            target[:, : made.shape[1]] = made
        return AudioBatch(samples=samples, lengths=tokens.lengths * self.hop)

    def codebooks(self) -> Tensor:
        """`[Q, 1024, 128]`."""
        layers = self._network.quantizer.vq.layers[: self.levels]
        return torch.stack([layer.codebook.detach().float().cpu() for layer in layers])

    def _scale(self) -> Tensor | None:
        if not self._network.normalize:
            return None
        return torch.full((1, 1), LOUDNESS, device=self._device)


def _build(model: str, checkpoint: Path | None) -> Any:
    """The package's network with its weights.

    Its pretrained weights come by name; a local checkpoint is the package's own format, a state
    dictionary, and is read without unpickling anything but tensors.
    """
    from encodec import EncodecModel

    with warnings.catch_warnings():
        # The package still uses the older of torch's weight normalisations.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*weight_norm.*")
        make = getattr(EncodecModel, model.replace("encodec_", "encodec_model_"))
        if checkpoint is None:
            try:
                return make()
            except OSError as error:
                raise StageFailure(
                    f"the weights of {model} could not be fetched ({error}): give a local "
                    f"checkpoint as {model}:FILE"
                ) from None
        network = make(pretrained=False)
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except FileNotFoundError:
        raise DataMismatch(f"{checkpoint} does not exist: give an EnCodec checkpoint") from None
    except Exception as error:  # torch raises many kinds for what is no checkpoint
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataMismatch(f"{checkpoint} is no checkpoint of {model} ({reason})") from None
    return network


def _hash_weights(network: Any) -> str:
    """SHA-256 hex over every weight, so that a name and a local copy of it are the same codec."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
