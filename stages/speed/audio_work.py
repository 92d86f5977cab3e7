"""Tokenizing and vocoding with the models that ship as work to be timed, on made-up audio."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stages.assets import MINI, model_folder
from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.codec.mel.config import MelCodecConfig
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.network import MEL_MEAN, MEL_SPREAD
from stages.codec.registry import load_codec
from stages.nn.model_file import read_model_config
from stages.semantic.bottleneck import BottleneckConfig
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.kmeans import load_kmeans
from stages.semantic.unit_search.refining import Refinement
from stages.speed.cells import TOKENIZE, VOCODE, Cell
from stages.speed.codec_cost import (
    griffin_lim_cost,
    mel_decoder_cost,
    mel_encoder_cost,
    own_sound,
    sound_cost,
)
from stages.speed.cost import conformer_flops, linear_flops
from stages.speed.products import (
    Product,
    conformer_products,
    griffin_lim_products,
    linear,
    mel_decoder_products,
    mel_encoder_products,
    sound_products,
)
from stages.speed.work import Work

LOUDNESS = 0.1
"""Root mean square of the audio. It is noise: what is computed does not depend on what is heard."""


class AudioWork(Work):
    """Work on a batch of rows of one length."""

    def __init__(
        self,
        cell: Cell,
        call: Callable[[], object],
        *,
        flops: float | None = None,
        products: list[Product] | None = None,
    ) -> None:
        """
        Args:
            cell: what is measured.
            call: does it.
            flops: of one row.
            products: of one row.
        """
        self._call, self._batch, self._audio = call, cell.batch, float(cell.audio)
        self._products = [product.times(cell.batch) for product in products or ()]
        self.flops = None if flops is None else flops * cell.batch

    def run(self, steps: int) -> None:
        del steps
        self._call()

    def products(self, steps: int) -> list[Product]:
        del steps
        return self._products

    def more(self, seconds: float) -> dict[str, float]:
        return {
            "rows_per_second": self._batch / seconds,
            "audio_seconds_per_second": self._audio / seconds,
        }


def acoustic_tokens(cell: Cell, device: torch.device) -> AudioWork:
    """Audio to the codec mini's tokens."""
    codec, config = _mini_codec(device)
    samples = _noise(cell, codec.sample_rate)
    lengths = torch.full((cell.batch,), samples.shape[1])
    audio = AudioBatch(samples=samples[:, None], lengths=lengths)
    frames = codec.frames_of(samples.shape[1])
    return AudioWork(
        cell,
        lambda: codec.encode(audio),
        flops=mel_encoder_cost(config, frames, codec.levels).flops,
        products=mel_encoder_products(config, frames, codec.levels),
    )


def semantic_tokens(cell: Cell, device: torch.device) -> AudioWork:
    """Audio to mini's semantic tokens: its bottleneck and refiner, then its k-means, which is not
    counted."""
    kmeans = load_kmeans(model_folder(MINI, "kmeans"))
    encoder = load_encoder(MINI, device=str(device))
    folder = model_folder(MINI, "bottleneck")
    config = BottleneckConfig.from_json(read_model_config(folder)["config"], where=str(folder))
    refinement = Refinement(
        model_folder(MINI, "refiner"),
        encoder.fingerprint,
        speaker=model_folder(MINI, "unit-to-mel"),
        device=str(device),
    )
    samples = _noise(cell, encoder.sample_rate)
    lengths = torch.full((cell.batch,), samples.shape[1])

    def tokenize() -> None:
        found = encoder.encode(samples, lengths)
        rows = zip(samples.numpy(), found.values.cpu().numpy(), found.lengths.tolist(), strict=True)
        for sound, row, count in rows:
            kmeans.assign(refinement.frames(sound, row[:count]))

    frames = math.ceil(cell.seconds * config.frame_rate)
    bands = config.stack * config.mels
    parts = [(frames, bands, config.conformer, config.dim)]  # frames, into, network, out of it
    for begin, end, _ in refinement.pieces.spans(frames):
        parts += [
            (end - begin, config.dim, refinement.speaker_config.conformer, bands),
            (end - begin, 2 * bands + config.dim, refinement.config.conformer, config.dim),
        ]
    return AudioWork(
        cell,
        tokenize,
        flops=sum(
            linear_flops(count, into, network.width)
            + conformer_flops(network, count)
            + linear_flops(count, network.width, out)
            for count, into, network, out in parts
        ),
        products=[
            product
            for count, into, network, out in parts
            for product in (
                linear(count, into, network.width),
                *conformer_products(network, 1, count),
                linear(count, network.width, out),
            )
        ],
    )


def assignment(cell: Cell, device: torch.device) -> AudioWork:
    """Frames to the nearest of mini's cluster centres, row by row; always on the CPU."""
    del device
    kmeans = load_kmeans(model_folder(MINI, "kmeans"))
    clusters, dim = kmeans.centroids.shape
    count = int(cell.seconds * kmeans.frame_rate)
    random = np.random.default_rng(0)
    rows = random.standard_normal((cell.batch, count, dim), dtype=np.float32)

    def assign() -> None:
        for row in rows:
            kmeans.assign(row)

    product = Product(M=count, K=dim, N=clusters, right_transposed=True)
    return AudioWork(cell, assign, flops=linear_flops(count, dim, clusters), products=[product])


def codec_sound(cell: Cell, device: torch.device) -> AudioWork:
    """The codec mini's tokens to sound."""
    codec, config = _mini_codec(device)
    frames = int(cell.seconds * codec.frame_rate)
    generator = torch.Generator().manual_seed(0)
    shape = (cell.batch, frames, codec.levels)
    codes = torch.randint(codec.codebook_size, shape, generator=generator)
    tokens = AcousticTokens(codes=codes, lengths=torch.full((cell.batch,), frames))
    sound = own_sound(model_folder(MINI, "codec"), config.geometry)
    return AudioWork(
        cell,
        lambda: codec.decode(tokens),
        flops=(mel_decoder_cost(config, frames) + sound_cost(sound, frames)).flops,
        products=mel_decoder_products(config, frames) + sound_products(sound, frames),
    )


def griffin_lim_sound(cell: Cell, device: torch.device) -> AudioWork:
    """Mel frames to sound, without the codec's network and without a postfilter."""
    _, config = _mini_codec(device)
    frames = int(cell.seconds * config.frame_rate)
    sound = GriffinLim(config.geometry).to(device)
    generator = torch.Generator().manual_seed(0)
    mel = MEL_MEAN + MEL_SPREAD * torch.randn(cell.batch, frames, config.mels, generator=generator)
    mel, lengths = mel.to(device), torch.full((cell.batch,), frames)
    return AudioWork(
        cell,
        lambda: sound(mel, lengths),
        flops=griffin_lim_cost(config, frames).flops,
        products=griffin_lim_products(config, frames),
    )


WORKS: dict[tuple[str, str], Callable[[Cell, torch.device], AudioWork]] = {
    (TOKENIZE, "codec mini"): acoustic_tokens,
    (TOKENIZE, "semantic mini"): semantic_tokens,
    (TOKENIZE, "k-means mini"): assignment,
    (VOCODE, "codec mini"): codec_sound,
    (VOCODE, "Griffin-Lim"): griffin_lim_sound,
}
"""By task and part."""


def _noise(cell: Cell, sample_rate: int) -> Tensor:
    """`[B, N]` float32."""
    generator = torch.Generator().manual_seed(0)
    return LOUDNESS * torch.randn(cell.batch, int(cell.seconds * sample_rate), generator=generator)


def _mini_codec(device: torch.device) -> tuple[Codec, MelCodecConfig]:
    folder = model_folder(MINI, "codec")
    document = read_model_config(folder, kind="codec")
    config = MelCodecConfig.from_json(document["config"], where=str(folder))
    return load_codec(MINI, device=str(device)), config
