"""Sequences for training: layouts, times, what is scored, and that they can be learnt."""

from __future__ import annotations

import pytest
import torch

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig, StageConfig
from stages.audiolm.sequences import (
    TokenSequence,
    batch_sequences,
    coarse_sequence,
    fine_sequence,
    remove_duplicates,
    semantic_sequence,
)

SEMANTIC = SemanticConfig(semantic_codebook_size=100, width=32)
COARSE = CoarseConfig(semantic_codebook_size=100, codebook_size=10, levels=2, width=32)
FINE = FineConfig(codebook_size=10, levels=3, coarse_levels=2, width=32)


def test_semantic_layout() -> None:
    tokens = torch.tensor([5, 6, 6])
    whole = semantic_sequence(SEMANTIC, tokens, to_end=True)
    assert whole.entries.tolist() == [101, 5, 6, 6, 100]
    assert whole.positions.tolist() == [0, 1, 2, 3, 4]
    middle = semantic_sequence(SEMANTIC, tokens, total=7, from_start=False)
    assert middle.entries.tolist() == [102, 5, 6, 6]
    assert len(middle.positions) == 8


def test_coarse_layout() -> None:
    """Semantic tokens, separator, then frame by frame and level by level; positions are times."""
    semantic, acoustic = torch.tensor([7, 7, 9]), torch.tensor([[1, 2], [3, 4], [5, 6]])
    sequence = coarse_sequence(COARSE, semantic, acoustic)
    assert sequence.entries.tolist() == [27, 27, 29, 120, 1, 12, 3, 14, 5, 16]
    assert sequence.positions.tolist() == [1, 4, 7, 0, 2, 3, 5, 6, 8, 9]
    assert sequence.prefix == 4
    begun = coarse_sequence(COARSE, semantic, acoustic[:1])
    assert begun.entries.tolist() == sequence.entries.tolist()[:6]
    assert begun.positions.tolist() == sequence.positions.tolist()


def test_coarse_layout_without_duplicates() -> None:
    config = CoarseConfig(
        semantic_codebook_size=100, codebook_size=10, levels=2, width=32, keep_duplicates=False
    )
    semantic, acoustic = torch.tensor([7, 7, 9]), torch.tensor([[1, 2], [3, 4], [5, 6]])
    sequence = coarse_sequence(config, semantic, acoustic)
    assert sequence.entries.tolist() == [27, 29, 120, 1, 12, 3, 14, 5, 16]
    assert sequence.positions.tolist() == list(range(9)), "a time would tell durations"
    assert sequence.prefix == 3


def test_fine_layout() -> None:
    coarse, fine = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[8], [9]])
    sequence = fine_sequence(FINE, coarse, fine)
    assert sequence.entries.tolist() == [1, 12, 3, 14, 30, 28, 29]
    assert sequence.positions.tolist() == [1, 2, 4, 5, 0, 3, 6]
    assert sequence.prefix == 5


@pytest.mark.parametrize(
    ("tokens", "once"),
    [([], []), ([4], [4]), ([4, 4, 4], [4]), ([1, 1, 2, 1, 1, 3, 3], [1, 2, 1, 3])],
)
def test_remove_duplicates(tokens: list[int], once: list[int]) -> None:
    given = torch.tensor(tokens, dtype=torch.long)
    assert remove_duplicates(given).tolist() == once


def test_a_batch_scores_each_generated_token_once() -> None:
    torch.manual_seed(0)
    sequences = [
        coarse_sequence(COARSE, torch.randint(100, (frames,)), torch.randint(10, (frames, 2)))
        for frames in (3, 1, 4)
    ]
    batch = batch_sequences(COARSE, sequences)
    assert batch.sizes == [8, 8]
    assert batch.entries.shape == (3, 4 + 1 + 8 - 1)
    scored = set()
    groups = [0] * 8 + [1] * 8
    N = batch.entries.shape[1]
    for place, target, group in zip(batch.places, batch.targets, groups, strict=True):
        row, index = divmod(int(place), N)
        coming = int(sequences[row].entries[index + 1])
        assert coming == COARSE.first_entry(group) + int(target)
        assert index + 1 >= sequences[row].prefix
        scored.add((row, index))
    assert len(scored) == 16


def test_the_end_is_scored_where_it_is_known() -> None:
    tokens = torch.tensor([5, 6])
    for to_end, targets in ((True, [5, 6, 100]), (False, [5, 6])):
        sequence = semantic_sequence(SEMANTIC, tokens, to_end=to_end)
        assert batch_sequences(SEMANTIC, [sequence]).targets.tolist() == targets


@pytest.mark.parametrize("config", [SEMANTIC, COARSE, FINE], ids=lambda config: config.stage)
def test_codebooks_share_no_entry(config: StageConfig) -> None:
    taken = [
        range(config.first_entry(group), config.first_entry(group) + config.group_size)
        for group in range(config.groups)
    ]
    entries = [entry for codes in taken for entry in codes]
    assert len(set(entries)) == len(entries)
    assert max(entries) < config.entries


def test_prefix_and_rest_make_the_whole() -> None:
    """What generation feeds token by token is what training saw."""
    torch.manual_seed(0)
    semantic, acoustic = torch.randint(100, (6,)), torch.randint(10, (6, 2))
    whole = coarse_sequence(COARSE, semantic, acoustic)
    for known in range(7):
        begun: TokenSequence = coarse_sequence(COARSE, semantic, acoustic[:known])
        assert torch.equal(begun.entries, whole.entries[: len(begun.entries)])
        assert torch.equal(begun.positions, whole.positions)
        assert len(whole.entries) - len(begun.entries) == 2 * (6 - known)
