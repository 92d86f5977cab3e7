"""How many tokens stay masked after each pass of a level, and how loud the noise is (3.3)."""

from __future__ import annotations

import math

from stages.errors import DataMismatch

PAPER_ITERATIONS = "16,1"


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


def parse_iterations(text: str, levels: int, *, option: str = "--iterations") -> tuple[int, ...]:
    """Read the passes of each level; the last number repeats for the levels after it.

    Args:
        text: such as `16,1`: 16 passes at the first level and one at each other.
        levels: Q.
        option: what the user wrote it after, for messages.

    Raises:
        DataMismatch: if it is no list of whole numbers, or longer than there are levels.
    """
    parts = text.split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise DataMismatch(
            f"{option} {text} is no list of passes a level, each at least 1, such as "
            f"{PAPER_ITERATIONS}"
        )
    if len(numbers) > levels:
        raise DataMismatch(
            f"{option} {text} names {len(numbers)} levels while the model makes {levels}"
        )
    return tuple(numbers + numbers[-1:] * (levels - len(numbers)))
