"""Compiled passes: the same tokens, few shapes, and refusals where nothing can be compiled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch

from stages.errors import DataMismatch, StageFailure
from stages.nn import compiled
from stages.nn.compiled import LEAST_FRAMES, compile_conformer, padded_length
from stages.nn.precision import to_precision
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.decoding import Decoded, DecodeOptions, DecodeRequest, decode, decode_padded
from stages.soundstorm.network import SoundStorm

CPU = torch.device("cpu")
OPTIONS = DecodeOptions(iterations=(4, 2, 1))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What torch compiled for one test is nothing to the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make_network() -> SoundStorm:
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=3, codebook_size=11, semantic_codebook_size=7, layers=1, heads=2, width=16,
        feed_forward=32, dropout=0.0,
    )  # fmt: skip
    network = SoundStorm(config).eval().requires_grad_(False)
    network.head_weight.mul_(6.0)
    return network


def make_requests(*lengths: int) -> list[DecodeRequest]:
    generator = torch.Generator().manual_seed(1)
    return [
        DecodeRequest(
            row_id=f"row-{length}",
            semantic=torch.randint(7, (length,), generator=generator),
            prompt=torch.randint(11, (length // 5, 3), generator=generator),
        )
        for length in lengths
    ]


def require_same(found: list[Decoded], expected: list[Decoded]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.acoustic, other.acoustic)
        assert torch.equal(one.trace.passes, other.trace.passes)
        torch.testing.assert_close(
            one.trace.confidence, other.trace.confidence, atol=1e-4, rtol=1e-4, equal_nan=True
        )


def test_padded_lengths_are_few_and_near() -> None:
    lengths = range(1, 3001)
    assert all(padded_length(frames) >= frames for frames in lengths)
    assert all(padded_length(frames) < 9 / 8 * frames for frames in lengths if frames > 64)
    assert all(padded_length(padded_length(frames)) == padded_length(frames) for frames in lengths)
    assert padded_length(1) == LEAST_FRAMES
    assert len(set(map(padded_length, lengths))) < 50


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_equals_plain(
    backend: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", backend)
    requests = make_requests(10, 64, 33)
    network = to_precision(make_network(), precision, CPU)
    compile_conformer(network, CPU)
    expected = decode(to_precision(make_network(), precision, CPU), requests, OPTIONS)
    found = decode(network, requests, OPTIONS)
    if precision == "float32":
        require_same(found, expected)
    else:  # in 16 bits a mask over nothing already rounds otherwise
        pairs = zip(found, expected, strict=True)
        same = torch.cat([(a.acoustic == b.acoustic).flatten() for a, b in pairs])
        assert float(same.float().mean()) > 0.9
    require_same(decode_padded(network, requests, OPTIONS)[1:2], found[1:2])


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_code_gives_the_same_tokens() -> None:
    requests = make_requests(10, 64, 33)
    network = make_network()
    compile_conformer(network, CPU)
    require_same(decode(network, requests, OPTIONS), decode(make_network(), requests, OPTIONS))


def test_one_code_serves_all_passes_of_rows_of_like_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fourteen passes over two padded lengths, and a batch: three pieces of code."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(compiled, "BACKEND", backend)
    network = make_network()
    compile_conformer(network, CPU)
    decode(network, make_requests(10, 64, 33), OPTIONS)
    assert len(graphs) == 1
    decode(network, make_requests(65, 72), OPTIONS)
    assert len(graphs) == 2
    for count in (2, 3, 4):  # rows of a batch: any number, once there was a second
        decode_padded(network, make_requests(*range(40, 40 + count)), OPTIONS)
    assert len(graphs) == 3


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph holds the whole pass: `fullgraph` refuses whatever would need a number back."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    network = make_network()
    conformer = network.conformer
    compile_conformer(network, CPU)
    forward = type(conformer).forward

    def waits(self: object, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            x = x + 1
        return forward(self, x, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(conformer), "forward", waits)
    network = make_network()
    compile_conformer(network, CPU)
    with pytest.raises(StageFailure, match="the network cannot be compiled here"):
        decode(network, make_requests(10), OPTIONS)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("int8", "float32-packed"):
        network = to_precision(make_network(), precision, CPU)
        with pytest.raises(DataMismatch, match=f"{precision} passes cannot be compiled"):
            compile_conformer(network, CPU)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    from torch._inductor.cpp_builder import cpp_compiler_search

    cpp_compiler_search.cache_clear()
    try:
        with pytest.raises(DataMismatch, match="--compile needs a C\\+\\+ compiler"):
            compile_conformer(make_network(), CPU)
    finally:
        cpp_compiler_search.cache_clear()
