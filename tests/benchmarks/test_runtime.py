"""The runtime benchmark: what it counts, what it extrapolates, what it writes; never how fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.runtime.__main__ import benchmark, main, write
from benchmarks.runtime.autoregressive import Acoustic, Autoregressive, Semantic
from benchmarks.runtime.cells import Cell, Limits, Measuring
from benchmarks.runtime.lines import Probe, Rounds
from benchmarks.runtime.parallel import Parallel
from benchmarks.runtime.sizes import Size, size_of_preset
from benchmarks.runtime.system import System
from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig
from stages.codec.mel.config import MelCodecConfig, SourceFilterConfig, VocoderConfig
from stages.codec.mel.griffin_lim import GriffinLim
from stages.codec.mel.network import MelCodec
from stages.codec.mel.source_filter import SourceFilter
from stages.codec.mel.vocoder import Vocoder
from stages.nn.conformer import Conformer
from stages.nn.transformer import KeyValueCache, Transformer
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.schedule import parse_iterations
from stages.speed.codec_cost import (
    griffin_lim_cost,
    mel_decoder_cost,
    source_filter_cost,
    vocoder_cost,
)
from stages.speed.cost import (
    BYTES,
    NOTHING,
    Cost,
    conformer_weights,
    soundstorm_cost,
    transformer_weights,
)
from stages.speed.lines import Line, fit

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "feed_forward": 32}
# Chunks of 10, 20 and 10 frames, so that the longer length slides in every stage.
TINY = Size(
    name="tiny",
    semantic=SemanticConfig(
        semantic_codebook_size=7, chunk_seconds=0.4, overlap_seconds=0.2, **SHAPE
    ),
    coarse=CoarseConfig(
        semantic_codebook_size=7, codebook_size=11, levels=2, chunk_seconds=0.4,
        overlap_seconds=0.12, **SHAPE,
    ),
    fine=FineConfig(
        codebook_size=11, levels=5, coarse_levels=2, chunk_seconds=0.2, overlap_seconds=0.06,
        **SHAPE,
    ),
    soundstorm=SoundStormConfig(levels=5, codebook_size=11, semantic_codebook_size=7, **SHAPE),
)  # fmt: skip
SECONDS = [Fraction(1, 5), Fraction(3, 5)]

MakeSystem = Callable[[], System]


def semantic() -> Semantic:
    return Semantic(TINY, SECONDS, CPU)


def acoustic() -> Acoustic:
    return Acoustic(TINY, SECONDS, CPU)


def parallel() -> Parallel:
    return Parallel(TINY, CPU)


def counted(work: Callable[[], object]) -> int:
    """FLOPs by torch's count, which knows no fused attention on a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    total: int = counter.get_total_flops()
    return total


def numbers_in(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Of each cached pass, in order: tokens in the cache before it, and tokens it adds."""
    found = []
    extend = Transformer.extend

    def noted(self: Transformer, x: torch.Tensor, cache: KeyValueCache, **more: Any) -> Any:
        found.append((cache.lengths[0], x.shape[1]))
        return extend(self, x, cache, **more)

    monkeypatch.setattr(Transformer, "extend", noted)
    return found


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("make", [semantic, acoustic, parallel])
def test_flops(make: MakeSystem, seconds: Fraction) -> None:
    system = make()
    assert system.cost(seconds).flops == counted(lambda: system.run(seconds))


@pytest.mark.parametrize("make", [semantic, acoustic])
def test_steps_and_cache(make: Callable[[], Autoregressive], passes: list[tuple[int, int]]) -> None:
    system = make()
    system.run(SECONDS[-1])
    cost = system.cost(SECONDS[-1])
    token = BYTES * 2 * SHAPE["layers"] * SHAPE["width"]
    assert cost.steps == len(passes)
    # Of each pass: all keys and values are read, the new ones are written.
    assert cost.cache_bytes == token * sum(past + 2 * new for past, new in passes)
    heads = [BYTES * SHAPE["width"] * 11, BYTES * 11] if make is acoustic else [BYTES * 16 * 8, 32]
    weights = BYTES * transformer_weights(TINY.semantic.transformer) + sum(heads)
    assert cost.weight_bytes == len(passes) * weights


def test_weights() -> None:
    transformer, conformer = TINY.coarse.transformer, TINY.soundstorm.conformer
    assert transformer_weights(transformer) == numbers_in(Transformer(transformer))
    assert conformer_weights(conformer) == numbers_in(Conformer(conformer))


def test_steps_of_the_paper() -> None:
    config = SoundStormConfig(levels=12, codebook_size=1024, semantic_codebook_size=1024, **SHAPE)
    cost = soundstorm_cost(config, 1500, parse_iterations("16,1", 12))
    assert cost.steps == 27
    head = 1024 * (SHAPE["width"] + 1)
    assert cost.weight_bytes == BYTES * 27 * (conformer_weights(config.conformer) + head)


def test_sizes_are_the_presets() -> None:
    size = size_of_preset("350m")
    assert (size.coarse.width, size.soundstorm.layers, size.fine.groups) == (1024, 12, 8)
    assert size_of_preset("mini").semantic.semantic_codebook_size == 4096


def test_codec_cost() -> None:
    shape: dict[str, int] = {"sample_rate": 16_000, "hop": 64, "window": 256, "mels": 20}
    config = MelCodecConfig(**shape, width=8, hidden=24, blocks=2, levels=3, codebook_size=5)
    codec, sound = MelCodec(config), GriffinLim(config.geometry)
    T, frames = 9, torch.tensor([9])
    codes = torch.zeros(1, T, 3, dtype=torch.long)
    cost = mel_decoder_cost(config, T)
    assert cost.flops == counted(lambda: codec.decode(codes, frames))
    assert cost.weight_bytes == BYTES * numbers_in(codec.decoder)

    mel = torch.zeros(1, T, 20)
    assert griffin_lim_cost(config, T, fourier=False).flops == counted(lambda: sound(mel, frames))

    vocoder_config = VocoderConfig(**shape, width=8, hidden=24, blocks=2, fft=256)
    vocoder = Vocoder(vocoder_config)
    cost = vocoder_cost(vocoder_config, T, fourier=False)
    assert cost.flops == counted(lambda: vocoder(mel, frames))
    assert cost.weight_bytes == BYTES * numbers_in(vocoder)

    filter_config = SourceFilterConfig(**shape, width=8, hidden=24, blocks=2)
    source_filter = SourceFilter(filter_config)
    cost = source_filter_cost(filter_config, T, fourier=False)
    assert cost.flops == counted(lambda: source_filter(mel, frames))
    bands = source_filter.bands
    scaling = bands.log_mel.filters.numel() + bands.shares.numel()
    assert cost.weight_bytes == BYTES * (numbers_in(source_filter) + 14 * scaling)


def test_line() -> None:
    line = fit([(2, 7.0), (5, 13.0), (9, 21.0)])
    assert line.at(100) == pytest.approx(203.0)
    assert line.total(range(3, 50)) == pytest.approx(sum(3 + 2 * size for size in range(3, 50)))
    assert fit([(4, 1.0), (4, 3.0)]) == Line(base=2.0, slope=0.0)


def test_noise_foretells_no_negative_seconds() -> None:
    assert fit([(1, 3.0), (2, 1.0)]) == Line(base=2.0, slope=0.0)
    line = fit([(1, 1.0), (3, 5.0)])  # free of the bound: 2 x size - 1
    assert (line.base, line.slope) == (0.0, pytest.approx(1.6))


@pytest.mark.parametrize("make", [semantic, acoustic])
def test_extrapolation_is_exact(
    make: Callable[[], Autoregressive], passes: list[tuple[int, int]]
) -> None:
    """Of generations whose passes take times that are linear in what they go over."""
    system = make()
    known, token = Line(base=0.7, slope=0.03), Line(base=0.2, slope=0.001)

    def exact(probe: Probe) -> Probe:
        line = known if probe.line.endswith("known") else token
        return replace(probe, measure=lambda: probe.units * line.at(probe.size))

    rounds = Rounds([exact(probe) for probe in system.probes(SECONDS[-1])])
    rounds.fill(rounds=1, budget=0.0)
    for seconds in SECONDS:
        passes.clear()
        system.run(seconds)
        truth = sum(token.at(past + 1) if past else known.at(new) for past, new in passes)
        assert system.predict(rounds.lines()[0], seconds) == pytest.approx(truth)


def test_passes_extrapolate() -> None:
    system = parallel()
    probes = [replace(p, measure=lambda p=p: 0.5 + 2 * p.size) for p in system.probes(SECONDS[1])]
    rounds = Rounds(probes)
    rounds.fill(rounds=1, budget=0.0)
    steps = system.cost(SECONDS[1]).steps
    assert system.predict(rounds.lines()[0], SECONDS[1]) == pytest.approx(0.5 + 2 * steps)


@pytest.mark.parametrize("make", [semantic, acoustic])
def test_stretches_are_where_they_say(
    make: Callable[[], Autoregressive], passes: list[tuple[int, int]]
) -> None:
    """Each goes over `units` single tokens whose mean context is `size`; real passes go on as
    before after it."""
    system = make()
    for probe in system.probes(SECONDS[-1]):
        passes.clear()
        assert probe.measure() > 0
        assert len(passes) == probe.units
        if probe.line.endswith("tokens"):
            assert {new for _, new in passes} == {1}
            assert sum(past + 1 for past, _ in passes) == probe.size * probe.units
        else:
            assert passes == [(0, probe.size)]
    passes.clear()
    system.run(SECONDS[-1])
    assert len(passes) == system.cost(SECONDS[-1]).steps


class Pretending(System):
    """Says how long it takes, and takes no time."""

    name = label = "pretending"
    parameters = 0

    def __init__(self) -> None:
        self.runs = 0

    def cost(self, seconds: Fraction) -> Cost:
        return NOTHING

    def run(self, seconds: Fraction) -> None:
        self.runs += 1

    def probes(self, seconds: Fraction) -> list[Probe]:
        return [Probe(line="a", size=size, measure=lambda s=size: 2.0 * s) for size in (1, 2)]

    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        return lines["a"].at(float(seconds))


def pretended(budget: float) -> tuple[Cell, int]:
    system = Pretending()
    limits = Limits(budget=budget, repeats=3)
    (cell,) = Measuring(system, "none", limits, CPU).cells([Fraction(30)])
    return cell, system.runs


def test_too_long_is_extrapolated_and_says_so() -> None:
    cell, runs = pretended(59.0)
    assert (cell.extrapolated, runs) == (True, 0)
    assert cell.runtime == cell.fastest == cell.slowest == pytest.approx(60.0)
    assert (cell.runs, cell.measured) == (3, 18.0)  # three rounds of 2 and 4 s


def test_probes_keep_to_the_budget() -> None:
    cell, _ = pretended(13.0)
    assert (cell.runs, cell.measured) == (2, 12.0)


def test_short_enough_is_run_whole() -> None:
    cell, runs = pretended(120.0)
    assert (cell.extrapolated, cell.runs, runs) == (False, 3, 4)  # with a warm-up
    assert cell.predicted == pytest.approx(60.0)
    assert pretended(60.5)[1] == 3  # no time for a warm-up beside the probes


@pytest.mark.parametrize("budget", [1e-9, 60.0])
def test_end_to_end(tmp_path: Path, budget: float) -> None:
    pytest.importorskip("matplotlib")
    told: list[Cell] = []
    limits = Limits(budget=budget, repeats=1)
    report = benchmark([TINY], SECONDS, limits, CPU, told.append)
    assert [path.name for path in write(report, tmp_path / "new")] == [
        "runtime.json",
        "runtime.md",
        "runtime.png",
    ]
    document = json.loads((tmp_path / "new" / "runtime.json").read_text())
    assert len(document["cells"]) == len(told) == 4 * len(SECONDS)
    assert {cell["extrapolated"] for cell in document["cells"]} == {budget < 1}
    assert document["machine"]["threads"] == torch.get_num_threads()
    assert document["machine"]["torch"] == torch.__version__
    assert [row["audio"] for row in document["comparisons"]] == [0.2, 0.6]
    assert all(row["ratio"] > 0 for row in document["comparisons"])
    table = (tmp_path / "new" / "runtime.md").read_text()
    assert table.count("**extrapolated**") == (len(told) if budget < 1 else 0)
    assert (tmp_path / "new" / "runtime.png").stat().st_size > 0


@pytest.mark.parametrize(
    "arguments", [["--sizes", "huge"], ["--seconds", "5,x"], ["--seconds", "0"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
