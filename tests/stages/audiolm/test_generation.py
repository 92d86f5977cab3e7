"""Generation: against its naive twin, and what a row's surroundings must not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.chunks import Chunk, Job, generate, plan_chunks
from stages.audiolm.config import CoarseConfig
from stages.audiolm.generation import Continuation, complete, complete_padded
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import TokenSequence, coarse_sequence, semantic_sequence
from stages.soundstorm.decoding import DecodeRequest

MakeStage = Callable[..., StageModel[Any]]
LENGTHS, PROMPTS = [23, 9, 1, 61, 23, 12, 50], [0, 4, 0, 15, 7, 12, 33]
GREEDY = Sampling(temperature=0.0)


def make_requests(lengths: list[int], prompts: list[int], levels: int = 5) -> list[DecodeRequest]:
    generator = torch.Generator().manual_seed(0)
    return [
        DecodeRequest(
            row_id=f"row-{length}-{prompt}",
            semantic=torch.randint(7, (length // 2 + 1,), generator=generator).repeat_interleave(2)[
                :length
            ],
            prompt=torch.randint(11, (prompt, levels), generator=generator),
        )
        for length, prompt in zip(lengths, prompts, strict=True)
    ]


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches as on a GPU."""
    monkeypatch.setattr("stages.audiolm.chunks.complete", complete_padded)


@pytest.mark.usefixtures("padded")
@pytest.mark.parametrize("coarse", ["coarse", "dedup"])
@pytest.mark.parametrize(
    "sampling", [Sampling(), GREEDY, Sampling(temperature=0.8, top_k=5, top_p=0.9)]
)
def test_agrees_with_its_naive_twin(
    coarse: str, sampling: Sampling, make_stage: MakeStage, naive: Callable[..., Any]
) -> None:
    model = AcousticModel(coarse=make_stage(coarse), fine=make_stage("fine"))
    requests = make_requests(LENGTHS, PROMPTS)
    options = AcousticOptions(coarse=sampling, fine=sampling, seed=3)
    made = generate_acoustic(model, requests, options)
    for request, acoustic in zip(requests, made, strict=True):
        first = naive(
            model.coarse, request.row_id, request.semantic, request.prompt[:, :2], sampling,
            chunk=20, overlap=6, seed=3,
        )  # fmt: skip
        assert acoustic[:, :2].tolist() == first, request.row_id
        rest = naive(
            model.fine, request.row_id, acoustic[:, :2], request.prompt[:, 2:], sampling,
            chunk=10, overlap=3, seed=3,
        )  # fmt: skip
        assert acoustic[:, 2:].tolist() == rest, request.row_id


@pytest.mark.usefixtures("padded")
def test_ragged_batch_gives_what_each_row_gives_alone(acoustic_model: AcousticModel) -> None:
    requests, options = make_requests(LENGTHS, PROMPTS), AcousticOptions()
    together = generate_acoustic(acoustic_model, requests, options)
    backwards = generate_acoustic(acoustic_model, requests[::-1], options)[::-1]
    for request, batched, turned in zip(requests, together, backwards, strict=True):
        (alone,) = generate_acoustic(acoustic_model, [request], options)
        assert torch.equal(alone, batched)
        assert torch.equal(alone, turned)


def test_prompts_stay_and_codes_are_of_their_codebooks(acoustic_model: AcousticModel) -> None:
    requests = make_requests(LENGTHS, PROMPTS)
    for request, made in zip(
        requests, generate_acoustic(acoustic_model, requests, AcousticOptions()), strict=True
    ):
        assert made.shape == (len(request.semantic), 5)
        assert torch.equal(made[: len(request.prompt)], request.prompt)
        assert 0 <= int(made.min()) <= int(made.max()) < 11


def test_seed_and_id_decide_and_nothing_else(acoustic_model: AcousticModel) -> None:
    (request,) = make_requests([40], [3])
    (first,) = generate_acoustic(acoustic_model, [request], AcousticOptions())
    torch.manual_seed(123)
    torch.rand(5)
    assert torch.equal(first, generate_acoustic(acoustic_model, [request], AcousticOptions())[0])
    (other,) = generate_acoustic(acoustic_model, [request], AcousticOptions(seed=1))
    renamed = DecodeRequest(row_id="other", semantic=request.semantic, prompt=request.prompt)
    (another,) = generate_acoustic(acoustic_model, [renamed], AcousticOptions())
    assert not torch.equal(first[3:], other[3:])
    assert not torch.equal(first[3:], another[3:])


@pytest.mark.parametrize(
    ("frames", "given", "plan"),
    [
        (8, 0, [(0, 0, 8)]),
        (10, 4, [(0, 4, 10)]),
        (10, 10, []),
        (11, 0, [(0, 0, 10), (7, 10, 11)]),
        (25, 3, [(0, 3, 10), (7, 10, 17), (14, 17, 24), (21, 24, 25)]),
        (25, 10, [(7, 10, 17), (14, 17, 24), (21, 24, 25)]),
        (25, 12, [(9, 12, 19), (16, 19, 25)]),
    ],
)
def test_plan(frames: int, given: int, plan: list[tuple[int, int, int]]) -> None:
    chunks = plan_chunks(frames, given, 10, 3)
    assert [(chunk.start, chunk.known, chunk.end) for chunk in chunks] == plan


def test_ten_second_chunks_three_of_them_prompting_the_next(make_stage: MakeStage) -> None:
    """The paper's figures, at 50 Hz."""
    config = CoarseConfig(semantic_codebook_size=7, codebook_size=11, width=32)
    assert config.chunk_frames(make_stage("coarse").tokens["acoustic"].frame_rate) == (500, 150)
    chunks = plan_chunks(1500, 150, 500, 150)
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 500), (350, 850), (700, 1200),
                                                             (1050, 1500)]  # fmt: skip


def test_overlaps_are_the_tokens_of_the_chunk_before(make_stage: MakeStage) -> None:
    """What each chunk is prompted with, and what of it comes out, bit by bit."""
    stage, seen = make_stage("coarse"), []
    semantic = make_requests([70], [0])[0].semantic

    def sequence(chunk: Chunk, known: Tensor) -> TokenSequence:
        seen.append((chunk, known.clone()))
        return coarse_sequence(stage.config, semantic[chunk.start : chunk.end], known)

    job = Job(row_id="a", frames=70, given=torch.zeros(0, 2, dtype=torch.long), sequence=sequence)
    (made,) = generate(stage.network, [job], Sampling(), seed=0, chunk=20, overlap=6)
    assert len(seen) == 5
    for chunk, known in seen[1:]:
        assert len(known) == 6
        assert torch.equal(known, made[chunk.start : chunk.known])


def test_entries_read_are_of_the_level_that_is_due(make_stage: MakeStage) -> None:
    stage, read = make_stage("fine"), []
    extend = stage.network.extend
    stage.network.extend = lambda entries, *rest, **more: (  # type: ignore[method-assign]
        read.append(entries) or extend(entries, *rest, **more)  # type: ignore[func-returns-value]
    )
    sequence = TokenSequence(
        entries=torch.tensor([3, 14, 55]), positions=torch.arange(3 + 12), prefix=3
    )
    item = Continuation(sequence=sequence, quantiles=torch.rand(12))
    (codes,) = complete(stage.network, [item], Sampling())
    for index, entries in enumerate(read[1:]):
        assert int(entries) == (2 + index % 3) * 11 + int(codes[index])
    assert len(read) == 12, "one pass for the prefix, one for each token but the last"


def test_speech_ends_where_the_model_ends_it(make_stage: MakeStage) -> None:
    stage = make_stage("semantic")
    end = stage.config.end
    sequence = semantic_sequence(stage.config, torch.empty(0, dtype=torch.long), total=50)
    items = [
        Continuation(
            sequence=sequence, quantiles=torch.rand(50, generator=torch.Generator().manual_seed(n))
        )
        for n in range(20)
    ]
    free = complete_padded(stage.network, items, Sampling(), codes=end)
    assert all(len(codes) == 50 and int(codes.max()) < end for codes in free)
    ended = complete_padded(stage.network, items, Sampling(), stop=end)
    assert len({len(codes) for codes in ended}) > 5
    for item, codes in zip(items, ended, strict=True):
        assert end not in codes[:-1]
        assert len(codes) == 50 or int(codes[-1]) == end
        (alone,) = complete(stage.network, [item], Sampling(), stop=end)
        assert torch.equal(alone, codes)
