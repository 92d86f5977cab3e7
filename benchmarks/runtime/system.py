"""What is measured: a way to make tokens or sound, in the terms that `cells` needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction

from benchmarks.runtime.lines import Probe
from stages.speed.cost import Cost
from stages.speed.lines import Line


class System(ABC):
    """A method with its networks, on its device."""

    name: str
    """In files: `semantic`, `acoustic`, `soundstorm`, `codec`."""

    label: str
    """In tables and pictures."""

    parameters: int
    """Numbers in its networks."""

    @abstractmethod
    def cost(self, seconds: Fraction) -> Cost:
        """Of making so much audio."""

    @abstractmethod
    def run(self, seconds: Fraction) -> None:
        """Make so much audio, of one utterance without a prompt."""

    @abstractmethod
    def probes(self, seconds: Fraction) -> Sequence[Probe]:
        """Stretches of the same work, from which `predict` knows how long `run` takes."""

    @abstractmethod
    def predict(self, lines: Mapping[str, Line], seconds: Fraction) -> float:
        """Seconds of `run`, from the lines through its probes."""
