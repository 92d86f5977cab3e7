"""The toolkit's own codec behind the interface of all codecs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stages.assets import model_folder
from stages.codec.base import AcousticTokens, AudioBatch, Codec, UnusableVocoder
from stages.codec.levels import choose_levels
from stages.codec.mel.config import MelGeometry
from stages.codec.mel.griffin_lim import ITERATIONS, GriffinLim
from stages.codec.mel.mel_bands import FINER
from stages.codec.mel.model import SOURCE_FILTER_KIND, load_any_vocoder, load_mel_codec
from stages.codec.mel.postfilter import CONTRAST, LOUD, postfilter
from stages.codec.mel.source_filter import FORM, SourceFilter
from stages.errors import DataMismatch
from stages.nn.model_file import CONFIG_NAME
from stages.shards.provenance import hash_json

GRIFFIN_LIM = "griffin-lim"
PLAIN_GRIFFIN_LIM = "plain-griffin-lim"
"""Without the postfilter."""
OWN_VOCODER = "vocoder"
"""A folder of this name inside a codec's is its vocoder, unless another is asked for."""


class MelRVQCodec(Codec):
    """A residual quantiser over log-mel frames, and a vocoder after it.

    The fingerprint covers the frames and the quantiser and neither decoder nor vocoder, so that
    tokens, and models of them, stay what they are when the sound gets better.

    Args:
        folder: of the codec, as `train --model codec` writes it.
        name: what the user called it; the folder if None.
        vocoder: `griffin-lim`, `plain-griffin-lim` (without the postfilter), the folder of a
            vocoder or source-filter, or `mini`; by default the one inside the codec's folder, or
            Griffin-Lim where there is none.
        levels: Q; all by default.
        bitrate: kbit/s instead of levels.
        device: where the networks run.

    Raises:
        DataMismatch: if a folder holds no such model, or the vocoder is of other mel frames.
    """

    channels = 1

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        vocoder: str | None = None,
        levels: int | None = None,
        bitrate: float | None = None,
        device: str = "cpu",
    ) -> None:
        network, fingerprint = load_mel_codec(folder)
        config = network.config
        self.name = name or str(folder)
        self.fingerprint = network.token_fingerprint()
        self.models = {"codec": self.fingerprint}
        self.sample_rate, self.frame_rate = config.sample_rate, config.frame_rate
        self.codebook_size = config.codebook_size
        self.levels = choose_levels(
            name=self.name,
            available=config.levels,
            frame_rate=config.frame_rate,
            codebook_size=config.codebook_size,
            default=config.levels,
            levels=levels,
            bitrate=bitrate,
        )
        self._device = device
        self._network = network.to(device)
        sound, sound_fingerprint = _load_sound(folder, vocoder, config.geometry)
        self._sound = sound.to(device)
        # A trained vocoder has learnt to mend what the frames have lost, and a source-filter, which
        # tells the pitch from frames as they are, filters them itself.
        self._filters = isinstance(sound, GriffinLim) and vocoder != PLAIN_GRIFFIN_LIM
        self.decoder_fingerprint = hash_json([fingerprint, sound_fingerprint])

    @torch.no_grad()
    def encode(self, audio: AudioBatch) -> AcousticTokens:
        """`[B, 1, N]` to `[B, ceil(N / hop), Q]`, each row by itself."""
        lengths = torch.tensor([self.frames_of(int(length)) for length in audio.lengths])
        longest = int(lengths.max()) if len(lengths) else 0
        codes = torch.zeros(len(lengths), longest, self.levels, dtype=torch.int64)
        for row, length, target in zip(audio.samples, audio.lengths, codes, strict=True):
            if int(length):
                # A copy, since where a row lies in memory may change the last bits of its sums.
                samples = row[:, : int(length)].clone().to(self._device)  # [1, N]
                size = torch.tensor([int(length)], device=self._device)
                found, _ = self._network.encode(samples, size, self.levels)  # [1, T, Q]
                target[: found.shape[1]] = found[0].cpu()
        return AcousticTokens(codes=codes, lengths=lengths)

    @torch.no_grad()
    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        """`[B, T, Q]` to `[B, 1, T x hop]`, each row by itself."""
        batch, frames, levels = tokens.codes.shape
        if levels > self._network.config.levels:
            raise DataMismatch(
                f"{self.name} has {self._network.config.levels} levels, and these tokens {levels}"
            )
        samples = torch.zeros(batch, 1, frames * self.hop)
        for row, length, target in zip(tokens.codes, tokens.lengths, samples, strict=True):
            if int(length):
                made = self._decode_row(row[: int(length)][None].to(self._device))
                target[0, : made.shape[1]] = made[0].cpu()
        return AudioBatch(samples=samples, lengths=tokens.lengths * self.hop)

    def codebooks(self) -> Tensor:
        """`[Q, C, D]`, D the width of what is quantised."""
        return self._network.quantizer.codebooks[: self.levels].cpu()

    def _decode_row(self, codes: Tensor) -> Tensor:
        """`[1, T, Q]` to `[1, T x hop]`."""
        size = torch.tensor([codes.shape[1]], device=self._device)
        mel = self._network.decode(codes, size)  # [1, T, M]
        if self._filters:
            mel = postfilter(mel[0])[None]
        samples: Tensor = self._sound(mel, size)
        return samples


def _load_sound(folder: Path, vocoder: str | None, geometry: MelGeometry) -> tuple[nn.Module, str]:
    """What turns mel frames into samples, and its fingerprint."""
    if vocoder is None and (folder / OWN_VOCODER / CONFIG_NAME).exists():
        vocoder = str(folder / OWN_VOCODER)
    plain = hash_json([GRIFFIN_LIM, "scaled to bands", ITERATIONS, FINER])
    filtered = [CONTRAST, LOUD]
    if vocoder is None or vocoder == GRIFFIN_LIM:
        return GriffinLim(geometry), hash_json([plain, *filtered])
    if vocoder == PLAIN_GRIFFIN_LIM:
        return GriffinLim(geometry), plain
    try:
        network, fingerprint = load_any_vocoder(model_folder(vocoder, SOURCE_FILTER_KIND))
    except DataMismatch as error:
        raise UnusableVocoder(f"the vocoder cannot be used: {error}") from None
    if network.config.geometry != geometry:
        raise UnusableVocoder(
            f"the vocoder {vocoder} is for other mel frames ({network.config.geometry}) than the "
            f"codec {folder} has ({geometry}): train it on this codec's"
        )
    if isinstance(network, SourceFilter):
        fingerprint = hash_json([fingerprint, FORM, FINER, *filtered])
    return network, fingerprint
