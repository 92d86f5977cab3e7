"""AudioLM's stages: whole generations, and stretches of them at any context."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.runtime.lines import Probe
from benchmarks.runtime.sizes import Size
from benchmarks.runtime.system import System
from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.chunks import Chunk, Job, generate, plan_chunks
from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig, StageConfig
from stages.audiolm.generation import Continuation, complete
from stages.audiolm.model import AcousticModel, StageModel, token_kinds
from stages.audiolm.network import StageNetwork
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import (
    TokenSequence,
    coarse_sequence,
    fine_sequence,
    semantic_sequence,
)
from stages.nn.transformer import KeyValueCache
from stages.soundstorm.decoding import DecodeRequest
from stages.speed.clock import timed, wait
from stages.speed.cost import NOTHING, Cost, continuation_cost
from stages.speed.lines import Line

Config = TypeVar("Config", bound=StageConfig)

STRETCH = 33
"""Steps of a stretch."""

CONTEXTS = 4
"""Stretches of a stage, from its shortest context to its longest."""

PREFIXES = 3
"""Known parts that are measured: the shortest, the longest and one between."""


class TimedStage(StageNetwork):
    """A stage that can be given a past instead of computing it.

    With `invented` the first pass, over what is known, only fills the cache with numbers; the time
    of the passes after it does not depend on them.
    """

    invented = False

    started: float | None = None
    """When the first pass after it began, on `time.perf_counter`."""

    def extend(
        self,
        entries: Tensor,
        positions: Tensor,
        cache: KeyValueCache,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """See `StageNetwork.extend`."""
        if not self.invented:
            return super().extend(entries, positions, cache, counts)
        if not any(cache.lengths):
            for index in range(self.config.layers):
                cache.layer(index).fill_(0.5)  # all of it: memory never touched reads too fast
            cache.lengths = [entries.shape[1]] * cache.rows
            return self.table.new_zeros(*entries.shape, self.config.width)
        if self.started is None:
            wait(self.table.device)
            self.started = time.perf_counter()
        return super().extend(entries, positions, cache, counts)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage's network and how its chunks begin."""

    network: TimedStage

    rate: Fraction
    """Frames a second of what it makes."""

    sequence: Callable[[int, Tensor], TokenSequence]
    """Of a chunk of so many frames, of which `[t, G]` codes are known."""

    @property
    def chunk(self) -> tuple[int, int]:
        """Frames of a chunk and of its overlap."""
        return self.network.config.chunk_frames(self.rate)

    def shapes(self, seconds: Fraction) -> list[tuple[int, int]]:
        """Of each chunk, the tokens that are known and those that are made."""
        groups = self.network.config.groups
        shapes = []
        for chunk in plan_chunks(int(seconds * self.rate), 0, *self.chunk):
            known = torch.zeros(chunk.known - chunk.start, groups, dtype=torch.long)
            entries = self.sequence(chunk.end - chunk.start, known).entries
            shapes.append((len(entries), (chunk.end - chunk.known) * groups))
        return shapes

    def cost(self, seconds: Fraction) -> Cost:
        costs = [continuation_cost(self.network.config, *shape) for shape in self.shapes(seconds)]
        return sum(costs, NOTHING)

    def probes(self, lengths: Sequence[Fraction]) -> list[Probe]:
        """Stretches at contexts from the shortest to the longest that `lengths` bring about, and
        passes over known parts of three lengths."""
        shapes = [shape for seconds in lengths for shape in self.shapes(seconds)]
        lowest = min(known for known, _ in shapes)
        highest = max(known + made - 1 for known, made in shapes)
        steps = max(1, min(STRETCH, (highest - lowest) // 2))  # a line needs two stretches
        room = max(0, highest - lowest - steps)
        pasts = {lowest + room * index // (CONTEXTS - 1) for index in range(CONTEXTS)}
        # Step i of a stretch attends to past + i tokens, i from 1 on.
        stretches = [
            Probe(
                line=self._line("tokens"),
                size=past + (steps + 1) / 2,
                units=steps,
                measure=partial(self._stretch, past, steps),
            )
            for past in sorted(pasts)
        ]
        prefixes = sorted({known for known, _ in shapes})
        chosen = {prefixes[(len(prefixes) - 1) * i // (PREFIXES - 1)] for i in range(PREFIXES)}
        return stretches + [
            Probe(line=self._line("known"), size=known, measure=partial(self._known, known))
            for known in sorted(chosen)
        ]

    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        """Each chunk is a pass over what is known and a step for each other token."""
        known_line, token_line = lines[self._line("known")], lines[self._line("tokens")]
        return sum(
            known_line.at(known) + token_line.total(range(known + 1, known + made))
            for known, made in self.shapes(seconds)
        )

    def _line(self, what: str) -> str:
        return f"{self.network.config.stage} {what}"

    def _known(self, known: int) -> float:
        """Seconds of the first pass, and of choosing its token."""
        return timed(lambda: self._complete(known, 1), self.network.table.device)

    def _stretch(self, past: int, steps: int) -> float:
        """Seconds of `steps` further tokens."""
        network, device = self.network, self.network.table.device
        network.invented, network.started = True, None
        try:
            self._complete(past, steps + 1)  # the first comes of the invented pass
            wait(device)
            assert network.started is not None
            return time.perf_counter() - network.started
        finally:
            network.invented = False

    def _complete(self, known: int, made: int) -> None:
        sequence = TokenSequence(
            entries=torch.zeros(known, dtype=torch.long),
            positions=torch.arange(known + made),
            prefix=known,
        )
        item = Continuation(sequence=sequence, quantiles=torch.full((made,), 0.5))
        complete(self.network, [item], Sampling())


class Autoregressive(System):
    """Stages in a row. How long a token takes depends on its context alone, so all lengths of
    audio share their probes."""

    def __init__(self, stages: Sequence[Stage], lengths: Sequence[Fraction]) -> None:
        self.stages, self._lengths = stages, lengths
        self.parameters = sum(p.numel() for stage in stages for p in stage.network.parameters())

    def cost(self, seconds: Fraction) -> Cost:
        return sum((stage.cost(seconds) for stage in self.stages), NOTHING)

    def probes(self, seconds: Fraction) -> list[Probe]:
        del seconds
        return [probe for stage in self.stages for probe in stage.probes(self._lengths)]

    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        return sum(stage.predict(lines, seconds) for stage in self.stages)


class Semantic(Autoregressive):
    """Stage one, from nothing; it never ends the utterance of itself."""

    name = "semantic"
    label = "AudioLM stage 1"

    def __init__(self, size: Size, lengths: Sequence[Fraction], device: torch.device) -> None:
        config, rate = size.semantic, size.tokens["semantic"].frame_rate
        sequence = partial(_semantic_chunk, config)
        self._stage = Stage(network=_network(config, device), rate=rate, sequence=sequence)
        self._config = config
        super().__init__([self._stage], lengths)

    def run(self, seconds: Fraction) -> None:
        stage = self._stage

        def sequence(chunk: Chunk, known: Tensor) -> TokenSequence:
            return stage.sequence(chunk.end - chunk.start, known)

        job = Job(
            row_id="row",
            frames=int(seconds * stage.rate),
            given=torch.zeros(0, 1, dtype=torch.long),
            sequence=sequence,
        )
        chunk, overlap = stage.chunk
        generate(
            stage.network, [job], Sampling(), seed=0, chunk=chunk, overlap=overlap,
            codes=self._config.end,
        )  # fmt: skip


class Acoustic(Autoregressive):
    """Stages two and three, from semantic tokens, by slide and prompt."""

    name = "acoustic"
    label = "AudioLM stages 2 and 3"

    def __init__(self, size: Size, lengths: Sequence[Fraction], device: torch.device) -> None:
        coarse, fine = _network(size.coarse, device), _network(size.fine, device)
        rate = size.tokens["acoustic"].frame_rate
        self._size = size
        self._model = AcousticModel(
            coarse=_model(size, size.coarse, coarse), fine=_model(size, size.fine, fine)
        )
        super().__init__(
            [
                Stage(network=coarse, rate=rate, sequence=partial(_coarse_chunk, size.coarse)),
                Stage(network=fine, rate=rate, sequence=partial(_fine_chunk, size.fine)),
            ],
            lengths,
        )

    def run(self, seconds: Fraction) -> None:
        frames = int(seconds * self._size.tokens["acoustic"].frame_rate)
        generate_acoustic(self._model, [request(self._size, frames)], AcousticOptions())


def request(size: Size, frames: int) -> DecodeRequest:
    """A row of made-up semantic tokens, without a prompt."""
    return DecodeRequest(
        row_id="row",
        semantic=torch.arange(frames) % size.coarse.semantic_codebook_size,  # no two alike in a row
        prompt=torch.zeros(0, size.soundstorm.levels, dtype=torch.long),
    )


def _network(config: StageConfig, device: torch.device) -> TimedStage:
    torch.manual_seed(0)
    return TimedStage(config).eval().requires_grad_(False).to(device)


def _model(size: Size, config: Config, network: TimedStage) -> StageModel[Config]:
    tokens = {kind: size.tokens[kind] for kind in token_kinds(config)}
    return StageModel(network=network, config=config, tokens=tokens, fingerprint="0" * 64)


def _semantic_chunk(config: SemanticConfig, frames: int, known: Tensor) -> TokenSequence:
    return semantic_sequence(config, known[:, 0], total=frames)


def _coarse_chunk(config: CoarseConfig, frames: int, known: Tensor) -> TokenSequence:
    return coarse_sequence(config, torch.arange(frames) % config.semantic_codebook_size, known)


def _fine_chunk(config: FineConfig, frames: int, known: Tensor) -> TokenSequence:
    return fine_sequence(config, torch.zeros(frames, config.coarse_levels, dtype=torch.long), known)
