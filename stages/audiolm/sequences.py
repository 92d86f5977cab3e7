"""What a stage reads and writes, as one sequence of entries of its vocabulary.

A sequence is a condition, a separator, and the tokens that are generated: frame by frame, and
within a frame level by level (AudioLM, section III-B; paper, section 4.2).

Causality goes by order. Rotary positions go by time: a condition and the tokens it is the
condition of stand at places that are next to each other, so that a network finds the one from the
other by a distance that is always the same. Where duplicates are removed, no semantic token has
a time, and positions are the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.audiolm.config import CoarseConfig, FineConfig, SemanticConfig, StageConfig


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """One row's sequence, whole for training or still to be continued."""

    entries: Tensor
    """`[n]` int64: entries of the vocabulary that are known, from the first on."""

    positions: Tensor
    """`[N]` int64, N >= n: rotary positions of all, known or not."""

    prefix: int
    """Leading entries that are never generated: what follows is of codebook 0, 1, ..., G - 1, 0,
    ... in turn."""


def semantic_sequence(
    config: SemanticConfig,
    tokens: Tensor,
    *,
    total: int | None = None,
    from_start: bool = True,
    to_end: bool = False,
) -> TokenSequence:
    """A stretch of an utterance's semantic tokens.

    Args:
        config: of the stage.
        tokens: `[n]` int64.
        total: tokens there will be; n if None.
        from_start: whether the first is the utterance's first.
        to_end: whether the last is the utterance's last, so that the end follows it.
    """
    first = config.begin if from_start else config.middle
    last = [config.end] if to_end else []
    entries = torch.cat((torch.tensor([first]), tokens, torch.tensor(last, dtype=torch.long)))
    count = len(entries) if total is None else 1 + total
    return TokenSequence(entries=entries, positions=torch.arange(count), prefix=1)


def coarse_sequence(config: CoarseConfig, semantic: Tensor, acoustic: Tensor) -> TokenSequence:
    """Semantic tokens and the coarse tokens of the same time.

    Args:
        config: of the stage.
        semantic: `[T]` int64, the semantic token of each acoustic frame.
        acoustic: `[t, L]` int64, t <= T: the frames that are known.
    """
    frames, known = len(semantic), len(acoustic)
    condition = semantic if config.keep_duplicates else remove_duplicates(semantic)
    prefix = len(condition) + 1
    if config.keep_duplicates:
        # In time: 0 the separator, then frame 0's semantic token and its levels, frame 1's, ...
        times = (1 + torch.arange(frames * (config.levels + 1))).view(frames, -1)  # [T, 1 + L]
        positions = torch.cat((times[:, 0], torch.tensor([0]), times[:, 1:].flatten()))
    else:
        positions = torch.arange(prefix + frames * config.levels)
    entries = torch.cat(
        (
            config.first_semantic + condition,
            torch.tensor([config.separator]),
            _flatten(config, acoustic),
        )
    )
    assert len(entries) == prefix + known * config.levels
    return TokenSequence(entries=entries, positions=positions, prefix=prefix)


def fine_sequence(config: FineConfig, coarse: Tensor, fine: Tensor) -> TokenSequence:
    """Coarse tokens and the fine tokens of the same frames.

    Args:
        config: of the stage.
        coarse: `[T, L]` int64.
        fine: `[t, Q - L]` int64, t <= T: the frames that are known.
    """
    frames, first = coarse.shape
    times = (1 + torch.arange(frames * config.levels)).view(frames, -1)  # [T, Q]
    positions = (times[:, :first].flatten(), torch.tensor([0]), times[:, first:].flatten())
    level_entries = config.codebook_size * torch.arange(first)
    return TokenSequence(
        entries=torch.cat(
            (
                (coarse + level_entries).flatten(),
                torch.tensor([config.separator]),
                _flatten(config, fine),
            )
        ),
        positions=torch.cat(positions),
        prefix=frames * first + 1,
    )


def remove_duplicates(tokens: Tensor) -> Tensor:
    """`[T]` to `[n]`: each run of one token becomes one token."""
    once: Tensor = torch.unique_consecutive(tokens)
    return once


def _flatten(config: StageConfig, codes: Tensor) -> Tensor:
    """Generated codes `[t, G]` to entries `[t G]`, frame by frame."""
    first = torch.tensor([config.first_entry(group) for group in range(config.groups)])
    return (codes + first).flatten()


@dataclass(frozen=True, kw_only=True)
class SequenceBatch:
    """Whole sequences for training, on the CPU, with what is to be predicted where."""

    entries: Tensor
    """`[B, N]` int64: what the network reads, each sequence but its last token; 0 at padding."""

    positions: Tensor
    """`[B, N]` int64."""

    places: Tensor
    """`[M]` int64: indices into B N at which a generated token comes next, codebook by codebook."""

    targets: Tensor
    """`[M]` int64: the codes that come there."""

    sizes: list[int]
    """`[G]`: how many of the M are of each codebook."""


def batch_sequences(config: StageConfig, sequences: Sequence[TokenSequence]) -> SequenceBatch:
    """Pad whole sequences into one batch; the loss is on what is generated only."""
    B, N = len(sequences), max(len(sequence.entries) for sequence in sequences) - 1
    entries = torch.zeros(B, N, dtype=torch.long)
    positions = torch.zeros(B, N, dtype=torch.long)
    places: list[list[Tensor]] = [[] for _ in range(config.groups)]
    targets: list[list[Tensor]] = [[] for _ in range(config.groups)]
    for row, sequence in enumerate(sequences):
        length = len(sequence.entries) - 1
        entries[row, :length] = sequence.entries[:-1]
        positions[row, :length] = sequence.positions[:length]
        for group in range(config.groups):
            coming = torch.arange(sequence.prefix + group, length + 1, config.groups)
            places[group].append(row * N + coming - 1)
            targets[group].append(sequence.entries[coming] - config.first_entry(group))
    return SequenceBatch(
        entries=entries,
        positions=positions,
        places=torch.cat([place for group in places for place in group]),
        targets=torch.cat([target for group in targets for target in group]),
        sizes=[sum(map(len, group)) for group in places],
    )
