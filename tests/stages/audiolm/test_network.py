"""The stages' network and loss: cached logits, batches, and sequences that can be learnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.audiolm.acoustic import AcousticOptions, generate_acoustic
from stages.audiolm.chunks import Job, generate
from stages.audiolm.loss import GroupSums, sequence_loss
from stages.audiolm.model import AcousticModel, StageModel
from stages.audiolm.network import StageNetwork
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import (
    TokenSequence,
    batch_sequences,
    coarse_sequence,
    fine_sequence,
    semantic_sequence,
)
from stages.nn.transformer import KeyValueCache
from stages.soundstorm.decoding import DecodeRequest

MakeStage = Callable[..., StageModel[Any]]
NAMES = ["semantic", "coarse", "dedup", "semantic of centroids", "coarse of centroids", "fine"]


def make_sequences(stage: StageModel[Any], lengths: list[int]) -> list[TokenSequence]:
    generator = torch.Generator().manual_seed(0)

    def draw(most: int, *shape: int) -> Tensor:
        return torch.randint(most, shape, generator=generator)

    sequences = []
    for frames in lengths:
        if stage.config.stage == "semantic":
            sequences.append(semantic_sequence(stage.config, draw(7, frames), to_end=True))
        elif stage.config.stage == "coarse":
            sequences.append(coarse_sequence(stage.config, draw(7, frames), draw(11, frames, 2)))
        else:
            sequences.append(fine_sequence(stage.config, draw(11, frames, 2), draw(11, frames, 3)))
    return sequences


@pytest.mark.parametrize("name", NAMES)
def test_cached_logits_are_those_of_whole_sequences(name: str, make_stage: MakeStage) -> None:
    stage = make_stage(name)
    network = stage.network
    (sequence,) = make_sequences(stage, [9])
    entries, positions = sequence.entries[None], sequence.positions[None]
    cache = KeyValueCache(
        stage.config.transformer, rows=1, capacity=entries.shape[1], device=torch.device("cpu")
    )
    with torch.inference_mode():
        whole = network.features(entries, positions)
        pieces = [sequence.prefix] + [1] * (entries.shape[1] - sequence.prefix)
        parts = [
            network.extend(entry, position, cache)
            for entry, position in zip(
                entries.split(pieces, dim=1), positions.split(pieces, dim=1), strict=True
            )
        ]
        cached = torch.cat(parts, dim=1)
        for group in range(stage.config.groups):
            torch.testing.assert_close(
                network.head(group, cached), network.head(group, whole), atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_the_sum_of_its_rows(name: str, make_stage: MakeStage) -> None:
    """So its mean is the token-weighted mean of theirs, and padding is in none of it."""
    stage = make_stage(name)
    sequences = make_sequences(stage, [9, 2, 5])

    def score(chosen: list[TokenSequence]) -> GroupSums:
        return sequence_loss(stage.network, batch_sequences(stage.config, chosen))

    together = score(sequences)
    alone = [score([sequence]) for sequence in sequences]
    torch.testing.assert_close(together.loss, torch.stack([row.loss for row in alone]).sum(0))
    assert torch.equal(together.tokens, torch.stack([row.tokens for row in alone]).sum(0))
    assert torch.equal(together.correct, torch.stack([row.correct for row in alone]).sum(0))
    expected = sum(float(row.mean) * int(row.tokens.sum()) for row in alone)
    assert float(together.mean) == pytest.approx(expected / int(together.tokens.sum()))


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_the_cross_entropy_of_what_comes_next(name: str, make_stage: MakeStage) -> None:
    stage = make_stage(name)
    (sequence,) = make_sequences(stage, [6])
    sums = sequence_loss(stage.network, batch_sequences(stage.config, [sequence]))
    with torch.inference_mode():
        features = stage.network.features(sequence.entries[None], sequence.positions[None])[0]
    expected = [0.0] * stage.config.groups
    for index in range(sequence.prefix, len(sequence.entries)):
        group = (index - sequence.prefix) % stage.config.groups
        code = int(sequence.entries[index]) - stage.config.first_entry(group)
        logits = stage.network.head(group, features[index - 1])
        expected[group] -= float(logits.log_softmax(-1)[code])
    torch.testing.assert_close(sums.loss, torch.tensor(expected))


@pytest.mark.parametrize("name", ["semantic", "coarse"])
def test_units_of_centroids_are_as_those_of_a_table(name: str, make_stage: MakeStage) -> None:
    """With the table that the centroids make, and the rest alike."""
    described, plain = make_stage(f"{name} of centroids").network, make_stage(name).network
    plain.transformer.load_state_dict(described.transformer.state_dict())
    semantic = plain.config.semantic_entries
    assert described.units is not None
    plain.table[: semantic.start] = described.table[: semantic.start]
    plain.table[semantic.start : semantic.stop] = described.units.table()
    plain.table[semantic.stop :] = described.table[semantic.start :]
    if described.unit_scores is None:
        plain.head_weight.copy_(described.head_weight)
    else:
        weights, biases = described.unit_weights()
        plain.head_weight[0] = torch.cat([weights, described.head_weight[0]])
        plain.head_bias[0] = torch.cat([biases, described.head_bias[0]])
    entries = torch.arange(plain.config.entries)[None]  # each of them
    features = plain.features(entries, entries)
    torch.testing.assert_close(described.features(entries, entries), features)
    logits = plain.head(0, features)
    torch.testing.assert_close(described.head(0, features), logits, atol=1e-5, rtol=1e-5)
    described.fix()
    torch.testing.assert_close(described.head(0, features), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(described.unit_table(), plain.unit_table())


def test_units_alone_have_no_weights_of_their_own(make_stage: MakeStage) -> None:
    network = make_stage("semantic of centroids").network
    sizes = (len(network.table), network.head_weight.shape[1])
    assert sizes == (3, 1)  # the begin, the middle and the end


def test_first_loss_is_near_that_of_chance(make_stage: MakeStage) -> None:
    stage = make_stage("coarse", sharpness=1.0)
    sums = sequence_loss(
        stage.network, batch_sequences(stage.config, make_sequences(stage, [80, 80]))
    )
    assert float(sums.mean) == pytest.approx(math.log(11) + 1 / 8, abs=0.15)


def learn(stage: StageModel[Any], sequences: list[TokenSequence]) -> float:
    """Train on the same sequences till nothing is left to learn; gives the last loss a token."""
    network: StageNetwork = stage.network.train().requires_grad_(True)
    network.reset_parameters()
    batch = batch_sequences(stage.config, sequences)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    loss = torch.tensor(torch.inf)
    for _ in range(300):
        optimiser.zero_grad()
        loss = sequence_loss(network, batch).mean
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if float(loss.detach()) < 0.01:
            break
    network.eval().requires_grad_(False)
    return float(loss.detach())


@pytest.mark.parametrize("coarse", ["coarse", "dedup"])
def test_what_was_learnt_by_heart_is_said_again(coarse: str, make_stage: MakeStage) -> None:
    """Near-zero loss, then greedy generation gives the corpus: training and generation agree on
    every place of every sequence."""
    torch.manual_seed(1)
    model = AcousticModel(coarse=make_stage(coarse), fine=make_stage("fine"))
    corpus = [(torch.randint(7, (n,)), torch.randint(11, (n, 5))) for n in (10, 7, 9)]
    first = [coarse_sequence(model.coarse.config, s, a[:, :2]) for s, a in corpus]
    assert learn(model.coarse, first) < 0.05
    assert model.fine is not None
    rest = [fine_sequence(model.fine.config, a[:, :2], a[:, 2:]) for _, a in corpus]
    assert learn(model.fine, rest) < 0.05
    greedy = Sampling(temperature=0.0)
    requests = [
        DecodeRequest(row_id=f"{n}", semantic=s, prompt=a[: n // 2])
        for n, (s, a) in enumerate(corpus)
    ]
    options = AcousticOptions(coarse=greedy, fine=greedy)
    for (_, acoustic), made in zip(
        corpus, generate_acoustic(model, requests, options), strict=True
    ):
        assert torch.equal(made, acoustic)


@pytest.mark.parametrize("name", ["semantic", "semantic of centroids"])
def test_words_learnt_by_heart_are_said_again_to_their_end(
    name: str, make_stage: MakeStage
) -> None:
    stage = make_stage(name)
    config = stage.config
    torch.manual_seed(1)
    corpus = [torch.cat((torch.tensor([first]), torch.randint(7, (8,)))) for first in (1, 2)]
    learnt = [semantic_sequence(config, tokens, to_end=True) for tokens in corpus]
    assert learn(stage, learnt) < 0.2  # which of the two comes first is not to be known
    jobs = [
        Job(
            row_id=str(n),
            frames=18,
            given=tokens[:1, None],
            sequence=lambda chunk, known: semantic_sequence(
                config, known[:, 0], total=chunk.end - chunk.start
            ),
        )
        for n, tokens in enumerate(corpus)
    ]
    greedy = Sampling(temperature=0.0)
    said = generate(stage.network, jobs, greedy, seed=0, chunk=20, overlap=10, stop=config.end)
    for tokens, row in zip(corpus, said, strict=True):
        assert row[:, 0].tolist() == tokens.tolist()
