"""Generating tokens one by one, with the past of every row in a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.audiolm.network import StageNetwork
from stages.audiolm.sampling import Sampling, sample
from stages.audiolm.sequences import TokenSequence
from stages.nn.transformer import KeyValueCache


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A sequence to complete."""

    sequence: TokenSequence
    """What is known of it, which ends with a whole frame, and positions for all of it."""

    quantiles: Tensor
    """`[N]` float32 in [0, 1): with which each of the N missing tokens is chosen."""


def complete(
    network: StageNetwork,
    items: Sequence[Continuation],
    sampling: Sampling,
    *,
    codes: int | None = None,
    stop: int | None = None,
) -> list[Tensor]:
    """Complete sequences, each as if it were alone.

    On a CPU each is alone: matrix products round by the number of their rows, and sooner or later
    a draw falls on the other side. Elsewhere all share padded passes, and only that rounding can
    tell a batch from its rows.

    Args:
        network: in evaluation mode.
        items: sequences that lack at least one token each.
        sampling: how to choose.
        codes: choose among the first so many codes of a codebook only; all if None.
        stop: a code after which a row is complete, however many tokens it lacks.

    Returns:
        For each item, in order, `[N]` int64 on the CPU: the codes of the missing tokens, up to and
        with `stop` if it came.
    """
    if network.table.device.type != "cpu":
        return complete_padded(network, items, sampling, codes=codes, stop=stop)
    return [complete_padded(network, [item], sampling, codes=codes, stop=stop)[0] for item in items]


@torch.inference_mode()
def complete_padded(
    network: StageNetwork,
    items: Sequence[Continuation],
    sampling: Sampling,
    *,
    codes: int | None = None,
    stop: int | None = None,
) -> list[Tensor]:
    """As `complete`, but in one ragged batch on any device.

    What is known goes through the network at once, what is generated token by token; so a row
    takes as many passes as it lacks tokens. Rows that are complete leave the batch. A row's
    random numbers are its own, so only the rounding of sums may tell the batch from its rows.
    """
    device = network.table.device
    counts = [len(item.quantiles) for item in items]
    order = sorted(range(len(items)), key=lambda index: -counts[index])  # the first to end, last
    known = [len(items[index].sequence.entries) for index in order]
    B, P, N = len(items), max(known), max(counts)
    entries = torch.zeros(B, P, dtype=torch.long)
    positions = torch.zeros(B, P, dtype=torch.long)
    coming = torch.zeros(B, N, dtype=torch.long)  # positions of what is generated
    quantiles = torch.zeros(B, N)
    for row, index in enumerate(order):
        item, count, length = items[index], counts[index], known[row]
        entries[row, :length] = item.sequence.entries
        positions[row, :length] = item.sequence.positions[:length]
        coming[row, :count] = item.sequence.positions[length : length + count]
        quantiles[row, :count] = item.quantiles
    coming, quantiles = coming.to(device), quantiles.to(device)
    cache = KeyValueCache(
        network.config.transformer,
        rows=B,
        # The last token that is chosen is never read.
        capacity=max(P, *(length + counts[i] - 1 for length, i in zip(known, order, strict=True))),
        device=device,
        dtype=network.table.dtype,
    )
    features = network.extend(entries.to(device), positions.to(device), cache, counts=known)
    last = features[torch.arange(B, device=device), torch.tensor(known, device=device) - 1]
    chosen = torch.zeros(B, N, dtype=torch.long, device=device)
    ended = torch.zeros(B, dtype=torch.bool, device=device)
    groups, rows = network.config.groups, B
    for step in range(N):
        logits = network.head(step % groups, last).float()[:, :codes]
        new = sample(logits, quantiles[:rows, step], sampling)  # [rows]
        chosen[:rows, step] = new
        if stop is not None:
            ended[:rows] |= new == stop
            if bool(ended[:rows].all()):
                break
        if step + 1 == N:
            break
        rows = sum(count > step + 1 for count in counts)
        cache.keep_first(rows)
        read = network.config.first_entry(step % groups) + new[:rows, None]
        last = network.extend(read, coming[:rows, step, None], cache)[:, 0]
    results: list[Tensor] = [torch.empty(0)] * B
    for row, index in enumerate(order):
        results[index] = _until(chosen[row, : counts[index]].cpu(), stop)
    return results


def _until(codes: Tensor, stop: int | None) -> Tensor:
    """The codes up to and with the first `stop`."""
    found = [] if stop is None else (codes == stop).nonzero().flatten().tolist()
    return codes[: found[0] + 1].clone() if found else codes.clone()
