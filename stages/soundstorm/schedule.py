"""Passes of each level, tokens that stay masked after each, and how loud the noise is (3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stages.errors import DataMismatch

PAPER_ITERATIONS = "16,1"
MOST_PASSES = 10_000
"""Of a level: all random numbers of a row are drawn beforehand, and more frames it hardly has."""


def masked_after(tokens: int, iteration: int, iterations: int) -> int:
    """Tokens of a level that are still masked after a pass.

    Exactly `floor(tokens * cos(pi / 2 * (iteration + 1) / iterations))`; the two places where the
    cosine is a fraction are taken exactly, so that rounding cannot move the floor.

    Args:
        tokens: N, the row's own tokens to generate at the level (its frames less its prompt).
        iteration: 0-based pass; -1 gives N, what is masked before the first.
        iterations: passes of the level.
    """
    done = iteration + 1
    if done >= iterations:
        return 0
    if 3 * done == 2 * iterations:  # cos(pi / 3) = 1 / 2
        return tokens // 2
    return math.floor(tokens * math.cos(math.pi / 2 * done / iterations))


def noise_multiplier(iteration: int, iterations: int) -> float:
    """The factor of the Gumbel noise on confidences: 1 in the first pass, 0 in the last, linear.

    A level of one pass is greedy, without noise.
    """
    if iterations == 1:
        return 0.0
    return 1.0 - iteration / (iterations - 1)


@dataclass(frozen=True, kw_only=True)
class Term:
    """Levels that share their passes: one in the paper, several where they are taken together."""

    first: int
    """0-based, the coarsest of them."""

    levels: int

    passes: int

    @property
    def indices(self) -> range:
        """The 0-based levels, coarse first."""
        return range(self.first, self.first + self.levels)


def terms(iterations: Sequence[int]) -> list[Term]:
    """Which levels share their passes.

    Args:
        iterations: passes of each level, coarse first; 0 at a level that is taken together with
            the one before it, in the passes of that.
    """
    starts = [level for level, passes in enumerate(iterations) if passes > 0]
    ends = [*starts[1:], len(iterations)]
    return [
        Term(first=start, levels=end - start, passes=iterations[start])
        for start, end in zip(starts, ends, strict=True)
    ]


def parse_iterations(
    text: str, levels: int, *, option: str = "--iterations", limited: bool = False
) -> tuple[int, ...]:
    """Read the passes of each level; the last term repeats for the levels after it.

    Args:
        text: such as `16,1`: 16 passes at the first level and one at each other; or `16,1x4`: one
            pass for each four further levels together, and for the fewer that are left at the end.
        levels: Q.
        option: what the user wrote it after, for messages.
        limited: whether the model makes more levels than these, for messages.

    Returns:
        Q numbers as `terms` takes them: 0 where a level has no passes of its own.

    Raises:
        DataMismatch: if it is no list of such terms, or names more levels than there are, or more
            than `MOST_PASSES` of one.
    """
    found = [_term(part) for part in text.split(",")]
    if min(map(min, found)) < 1:
        raise DataMismatch(
            f"{option} {text} is no list of passes a level, each at least 1, such as "
            f"{PAPER_ITERATIONS}, or {PAPER_ITERATIONS}x4 for one pass for each four levels"
        )
    if max(passes for passes, _ in found) > MOST_PASSES:
        raise DataMismatch(f"{option} {text} has more than {MOST_PASSES} passes of a level")
    named = sum(count for _, count in found)
    refuse_more_levels(f"{option} {text}", named, levels, limited=limited)
    passes, count = found[-1]
    while named < levels:
        found.append((passes, min(count, levels - named)))
        named += found[-1][1]
    return tuple(number for passes, count in found for number in (passes, *[0] * (count - 1)))


def refuse_more_levels(given: str, named: int, levels: int, *, limited: bool) -> None:
    """DataMismatch where an option names more levels than are made.

    Args:
        given: the option and its value.
        named: how many levels it names.
        levels: how many are to be made.
        limited: whether the model makes more than those.
    """
    if named > levels:
        wanted = "1 level is" if levels == 1 else f"{levels} levels are"
        made = f"{wanted} to be made" if limited else f"the model makes {levels}"
        raise DataMismatch(f"{given} names {named} levels while {made}")


def _term(part: str) -> tuple[int, int]:
    """Passes, and the levels that share them, of `16` or `1x4`; zeros where it is neither."""
    passes, joined, count = part.partition("x")
    try:
        return int(passes), int(count) if joined else 1
    except ValueError:
        return 0, 0


def iterations_text(iterations: Sequence[int]) -> str:
    """Passes of each level as a user writes them, as short as can be: `16,1` or `16,1x4`."""
    found = [(term.passes, term.levels) for term in terms(iterations)]
    if len(found) > 1 and found[-1][0] == found[-2][0] and found[-1][1] < found[-2][1]:
        found.pop()  # what repeats is cut where the levels end
    while len(found) > 1 and found[-1] == found[-2]:
        found.pop()
    return ",".join(f"{passes}x{count}" if count > 1 else f"{passes}" for passes, count in found)
