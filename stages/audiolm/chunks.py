"""Slide and prompt: rows longer than a chunk are generated chunk by chunk (paper, section 4.2).

A chunk begins with the end of the one before, whose tokens are its prompt and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.audiolm.generation import Continuation, complete
from stages.audiolm.network import StageNetwork
from stages.audiolm.sampling import Sampling
from stages.audiolm.sequences import TokenSequence
from stages.soundstorm.randomness import row_generator, row_quantiles


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of a row, in frames of the row."""

    start: int
    """Its first frame."""

    known: int
    """The first frame that it generates; those from `start` on are its prompt."""

    end: int
    """One past its last frame."""


def plan_chunks(frames: int, given: int, chunk: int, overlap: int) -> list[Chunk]:
    """The chunks of a row.

    Args:
        frames: T of the row.
        given: leading frames that need not be generated.
        chunk: frames of a chunk.
        overlap: frames that a chunk takes from the one before, fewer than `chunk`.

    Returns:
        Chunks whose generated frames, one after the other, are those from `given` on. The first
        begins with the row if that leaves it something to generate.
    """
    chunks = []
    done = given
    while done < frames:
        start = 0 if done < chunk else done - overlap
        end = min(start + chunk, frames)
        chunks.append(Chunk(start=start, known=done, end=end))
        done = end
    return chunks


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row for one stage to generate."""

    row_id: str

    frames: int
    """T."""

    given: Tensor
    """`[P, G]` int64, P <= T: codes of its leading frames."""

    sequence: Callable[[Chunk, Tensor], TokenSequence]
    """The sequence of a chunk, from the codes `[known - start, G]` of its prompt."""


def generate(
    network: StageNetwork,
    jobs: Sequence[Job],
    sampling: Sampling,
    *,
    seed: int,
    chunk: int,
    overlap: int,
    codes: int | None = None,
    stop: int | None = None,
) -> list[Tensor]:
    """Generate rows in chunks, the n-th chunks of all rows together.

    A row draws its random numbers for all its frames beforehand, from the seed, the stage and its
    id; so neither its neighbours nor its chunks decide them.

    Args:
        network: of the stage, in evaluation mode.
        jobs: the rows.
        sampling: how to choose tokens.
        seed: the user's.
        chunk: frames of a chunk.
        overlap: of them, what the next takes over.
        codes: see `complete`.
        stop: see `complete`; it ends a row, and is not part of it.

    Returns:
        `[T, G]` int64 for each row, on the CPU, with `given` at its start; fewer frames where the
        row was stopped.
    """
    groups = network.config.groups
    done = [job.given for job in jobs]
    plans = [plan_chunks(job.frames, len(job.given), chunk, overlap) for job in jobs]
    numbers = [
        row_quantiles(
            row_generator(seed, f"{network.config.kind}/{job.row_id}"),
            job.frames - len(job.given),
            groups,
        )
        for job in jobs
    ]
    for turn in range(max(map(len, plans), default=0)):
        rows = [row for row, plan in enumerate(plans) if turn < len(plan)]
        items = []
        for row in rows:
            part, given = plans[row][turn], len(jobs[row].given)
            items.append(
                Continuation(
                    sequence=jobs[row].sequence(part, done[row][part.start : part.known]),
                    quantiles=numbers[row][part.known - given : part.end - given].flatten(),
                )
            )
        made = complete(network, items, sampling, codes=codes, stop=stop) if items else []
        for row, new in zip(rows, made, strict=True):
            if stop is not None and len(new) and int(new[-1]) == stop:
                new, plans[row] = new[:-1], []
            done[row] = torch.cat((done[row], new.view(-1, groups)))
    return done
