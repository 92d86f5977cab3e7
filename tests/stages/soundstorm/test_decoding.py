"""The decoder against its naive twin, and what a row's surroundings must not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.errors import DataMismatch, RowFailure
from stages.soundstorm.decoding import (
    Decoded,
    DecodeOptions,
    DecodeRequest,
    decode,
    decode_padded,
)
from stages.soundstorm.guidance import Guidance
from stages.soundstorm.network import SoundStorm

LENGTHS = [23, 9, 1, 16, 23, 12]
PROMPTS = [0, 4, 0, 15, 7, 12]


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(iterations=(16, 1, 1)),
        DecodeOptions(iterations=(1, 1, 1)),
        DecodeOptions(iterations=(5, 3, 2), seed=7),
        DecodeOptions(iterations=(8, 1, 1), temperature=0.6, seed=1),
        DecodeOptions(iterations=(4, 4, 4), temperature=0.0),
        DecodeOptions(iterations=(6, 1, 0)),
        DecodeOptions(iterations=(5, 0, 2), seed=3),
        DecodeOptions(iterations=(4, 0, 0), temperature=0.8, seed=2),
        DecodeOptions(iterations=(1, 0, 0)),
        DecodeOptions(iterations=(6, 2, 1), guidance=2.5),
        DecodeOptions(iterations=(5, 0, 2), guidance=0.0, seed=3),
        DecodeOptions(iterations=(6, 2, 2), guidance=(2.5, 1.5, 1.0)),
        DecodeOptions(iterations=(4, 0, 2), guidance=(1.0, 3.0, 1.0), seed=5),
    ],
    ids=[
        "paper",
        "greedy",
        "several",
        "cool",
        "likeliest",
        "finer together",
        "coarser together",
        "all together",
        "at once",
        "guided",
        "unconditional",
        "guided by level",
        "one of two together guided",
    ],
)
def test_agrees_with_its_naive_twin(  # type: ignore[no-untyped-def]
    network: SoundStorm, make_requests, naive_decode, options: DecodeOptions
) -> None:
    requests = make_requests(LENGTHS, PROMPTS)
    for request, result in zip(requests, decode_padded(network, requests, options), strict=True):
        tokens, passes = naive_decode(network, request, options)
        assert result.acoustic.tolist() == tokens, request.row_id
        assert result.trace.passes.tolist() == passes, request.row_id


def same(first: Decoded, second: Decoded) -> bool:
    return torch.equal(first.acoustic, second.acoustic) and torch.equal(
        first.trace.passes, second.trace.passes
    )


@pytest.mark.parametrize("guidance", [1.0, 2.5, (2.5, 1.0)])
def test_ragged_batch_gives_what_each_row_gives_alone(  # type: ignore[no-untyped-def]
    network: SoundStorm, make_requests, guidance: Guidance
) -> None:
    requests = make_requests(LENGTHS, PROMPTS)
    options = DecodeOptions(iterations=(6, 2, 1), guidance=guidance)
    together = decode_padded(network, requests, options)
    backwards = decode_padded(network, requests[::-1], options)[::-1]
    for request, batched, turned in zip(requests, together, backwards, strict=True):
        (alone,) = decode(network, [request], options)
        assert same(alone, batched)
        assert same(alone, turned)


def test_without_guidance_nothing_is_said_twice(make_spy) -> None:  # type: ignore[no-untyped-def]
    spy = make_spy()
    requests = [
        DecodeRequest(row_id="a", semantic=torch.arange(7), prompt=torch.zeros(0, 3).long())
    ]
    decode(spy, requests, DecodeOptions(iterations=(2, 1, 1)))
    assert [len(seen) for seen in spy.inputs] == [1] * 4


def test_levels_without_guidance_make_their_passes_once(  # type: ignore[no-untyped-def]
    network: SoundStorm, make_requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    features_of = network.features_of

    def counted(summed: Tensor, mask: Tensor | None) -> Tensor:
        rows.append(len(summed))
        return features_of(summed, mask)

    monkeypatch.setattr(network, "features_of", counted)
    options = DecodeOptions(iterations=(2, 1, 1), guidance=(1.0, 2.0, 1.0))
    decode(network, make_requests([9], [0]), options)
    assert rows == [1, 1, 2, 1]


def test_guidance_needs_a_network_trained_for_it(make_spy, make_requests) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataMismatch, match=r"--set recipe\.drop_semantic"):
        decode(make_spy(), make_requests([9], [0]), DecodeOptions(iterations=(1,), guidance=2.0))


def test_seed_and_id_decide_and_nothing_else(network: SoundStorm, make_requests) -> None:  # type: ignore[no-untyped-def]
    (request,) = make_requests([40], [3])
    options = DecodeOptions(iterations=(8, 1, 1))
    (first,) = decode(network, [request], options)
    torch.manual_seed(123)
    torch.rand(5)
    assert same(first, decode(network, [request], options)[0])
    other_id = DecodeRequest(row_id="other", semantic=request.semantic, prompt=request.prompt)
    assert not same(first, decode(network, [other_id], options)[0])
    other_seed = DecodeOptions(iterations=(8, 1, 1), seed=1)
    assert not same(first, decode(network, [request], other_seed)[0])


def test_greedy_needs_no_seed(network: SoundStorm, make_requests) -> None:  # type: ignore[no-untyped-def]
    (request,) = make_requests([20], [0])
    results = [
        decode(network, [request], DecodeOptions(iterations=(1, 1, 1), seed=seed))[0]
        for seed in range(2)
    ]
    assert same(*results)


@pytest.mark.parametrize("temperature", [1e-38, 5e-324])
def test_a_tiny_temperature_takes_the_likeliest(  # type: ignore[no-untyped-def]
    network: SoundStorm, make_requests, temperature: float
) -> None:
    requests = make_requests(LENGTHS, PROMPTS)
    tiny, zero = (
        decode(network, requests, DecodeOptions(iterations=(4, 4, 4), temperature=value))
        for value in (temperature, 0.0)
    )
    for one, other in zip(tiny, zero, strict=True):
        assert torch.equal(one.acoustic, other.acoustic)


def test_samples_follow_the_network(make_network) -> None:  # type: ignore[no-untyped-def]
    """First-pass candidates over many seeds are distributed as the logits say."""
    network = make_network(levels=1, sharpness=2.0)
    semantic = torch.zeros(1, dtype=torch.long)
    requests = [
        DecodeRequest(row_id=str(i), semantic=semantic, prompt=torch.empty(0, 1, dtype=torch.long))
        for i in range(1500)
    ]
    for temperature in (1.0, 0.5):
        options = DecodeOptions(iterations=(2,), temperature=temperature)
        results = decode_padded(network, requests, options)
        counts = torch.bincount(torch.cat([r.acoustic[0] for r in results]), minlength=11)
        with torch.inference_mode():
            masked = torch.full((1, 1, 1), network.config.mask_token)
            logits = network.head(0, network.features(masked, semantic[None]))[0, 0]
        expected = (logits / temperature).softmax(-1)
        assert (counts / 1500 - expected).abs().max() < 0.04


def test_fewer_levels_are_the_coarse_ones_of_all(network: SoundStorm, make_requests) -> None:  # type: ignore[no-untyped-def]
    requests = make_requests([14], [2])
    (whole,) = decode(network, requests, DecodeOptions(iterations=(4, 1, 1)))
    (coarse,) = decode(network, requests, DecodeOptions(iterations=(4, 1)))
    assert torch.equal(coarse.acoustic, whole.acoustic[:, :2])
    with pytest.raises(DataMismatch, match="4 levels"):
        decode(network, requests, DecodeOptions(iterations=(1, 1, 1, 1)))


def test_trace_says_when_and_how_surely(network: SoundStorm, make_requests) -> None:  # type: ignore[no-untyped-def]
    (request,) = make_requests([30], [6])
    (result,) = decode(network, [request], DecodeOptions(iterations=(5, 2, 1)))
    passes, confidence = result.trace.passes, result.trace.confidence
    assert not passes[:6].any()
    assert confidence[:6].isnan().all()
    assert not confidence[6:].isnan().any()
    for level, allowed in enumerate(([1, 2, 3, 4, 5], [6, 7], [8])):
        assert sorted(set(passes[6:, level].tolist())) == allowed


@pytest.mark.parametrize(
    ("semantic", "prompt", "sentence"),
    [
        ([], torch.empty(0, 3), "no semantic tokens"),
        ([1, 7], torch.empty(0, 3), "semantic token is outside"),
        ([1, 2], torch.full((1, 3), 11), "acoustic token is outside"),
        ([1, 2], torch.zeros(3, 3), "longer than the row's 2"),
        ([1, 2], torch.zeros(1, 2), "3 levels"),
    ],
)
def test_request_refusals(
    network: SoundStorm, semantic: list[int], prompt: torch.Tensor, sentence: str
) -> None:
    request = DecodeRequest(
        row_id="a", semantic=torch.tensor(semantic, dtype=torch.long), prompt=prompt.long()
    )
    with pytest.raises(RowFailure, match=sentence):
        request.check(network.config)


@pytest.mark.parametrize(
    "change", [{"iterations": ()}, {"iterations": (0, 2)}, {"iterations": (2, -1)},
               {"temperature": -1.0},
               {"temperature": float("nan")}, {"guidance": -0.5},
               {"guidance": float("inf")}]
)  # fmt: skip
def test_option_refusals(change: dict[str, object]) -> None:
    with pytest.raises(DataMismatch):
        DecodeOptions(**{"iterations": (1,), **change})  # type: ignore[arg-type]
