"""What a run reports: sums while it trains, `metrics.jsonl` and TensorBoard when it logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from stages.training.distributed import Processes

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_NAME = "tensorboard"


class Meter:
    """Means over steps, kept on the device so that no step waits for its numbers."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor) -> None:
        """Count `[2]`: a sum and its weight."""
        kept = self._sums.get(name)
        if kept is None:
            self._sums[name] = total.detach().double().clone()
        else:
            self._sums[name] = kept.to(total.device) + total.detach()

    def take_in(self, other: Meter) -> None:
        """Count what another meter did."""
        for name, total in other._sums.items():
            self.add(name, total)

    def gathered(self, processes: Processes, device: torch.device) -> dict[str, Tensor]:
        """What all the processes counted since the last `means`, for a checkpoint: `[2]` each."""
        names = processes.union(self._sums)
        if not names:
            return {}
        nothing = torch.zeros(2, dtype=torch.float64)
        table = torch.stack([self._sums.get(name, nothing).to(device) for name in names])
        return dict(zip(names, processes.sum(table), strict=True))  # rows of [names, 2]

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `gathered` gave, on the CPU or where it is added to next."""
        self._sums = dict(state)

    def means(self, processes: Processes, device: torch.device) -> dict[str, float]:
        """Means over all the processes, then start again; what was never seen is left out."""
        sums = self.gathered(processes, device)
        self._sums.clear()
        if not sums:
            return {}
        rows: list[list[float]] = torch.stack(list(sums.values())).tolist()  # one wait, not many
        return {
            name: total / weight for name, (total, weight) in zip(sums, rows, strict=True) if weight
        }


class MetricsWriter:
    """Numbers by step, as lines of JSON and for TensorBoard."""

    def __init__(self, run: Path, *, resume_step: int) -> None:
        """Open a run's files; what an interrupted run wrote past its checkpoint is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        path = run / METRICS_NAME
        kept = _lines_up_to(path, resume_step)
        path.write_text("".join(kept))
        self._file: IO[str] = path.open("a")
        self._board: Any = SummaryWriter(  # type: ignore[no-untyped-call]
            str(run / TENSORBOARD_NAME), purge_step=resume_step + 1
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _lines_up_to(path: Path, step: int) -> list[str]:
    """Whole lines of steps up to `step`; a line that was cut off is dropped."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return kept
