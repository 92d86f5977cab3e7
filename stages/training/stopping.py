"""When a run stops: enough steps, enough minutes, or a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long this invocation goes on; none of it changes what a step computes."""

    max_steps: int | None = None
    """Updates in all, those of earlier invocations included."""

    max_minutes: float | None = None
    """Of this invocation."""

    checkpoint_minutes: float = 10.0
    """Between checkpoints."""


class Stopper:
    """Notes SIGINT and SIGTERM instead of dying, so that a step ends and is saved.

    A context manager; the earlier handlers come back at its end. A second Ctrl-C interrupts at
    once.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.signal: int | None = None
        self._clock = clock
        self._start = clock()
        self._before: dict[int, signal.Handlers | Callable[..., object] | int | None] = {}

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was what stopped the run."""
        return self.signal == signal.SIGINT

    def is_over(self, step: int) -> bool:
        """Whether to stop now, `step` updates having been made."""
        minutes = (self._clock() - self._start) / 60
        return (
            self.signal is not None
            or (self.limits.max_steps is not None and step >= self.limits.max_steps)
            or (self.limits.max_minutes is not None and minutes >= self.limits.max_minutes)
        )
