"""Training steps, timed in the loop that trains: what a step takes, and what of it waits for data.

The loop is watched from where it looks outside: it asks its `Stopper` after every step whether to
go on, asks the data loader for a batch, and then asks the task whose turn it is. So the time
between the first and the last question is the wait for data, and from one first question to the
next is a step. Weights are random, data is made up, and nothing is saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from stages.allocator import keep_freed_memory
from stages.speed.cells import Cell
from stages.speed.clock import wait
from stages.speed.cost import training_flops
from stages.speed.measured import Measured
from stages.speed.memory import peak_memory
from stages.speed.peak import ProductClock
from stages.speed.precisions import Numbers, numbers_of
from stages.speed.products import Product, step_products
from stages.speed.shapes import ACOUSTIC_RATE, frames_of, soundstorm_shape, token_specs
from stages.speed.work import PRODUCTS_SHARE, Limits, TooLong
from stages.training.loop import Trainer
from stages.training.presets import preset
from stages.training.settings import TrainingSettings, overlay
from stages.training.stopping import Limits as StopLimits
from stages.training.stopping import Stopper
from stages.training.tasks.soundstorm import SoundStormTask, TokenBatch
from stages.training.token_store import TokenStore, open_store, write_once

WARM_UP = 2
"""Steps that are not counted: the first makes the optimiser's memory, the second needs the most."""

MASKED = 1 / math.pi
"""Of a window's frames, those whose token a step predicts, on average: the half that is no prompt
(3.2) times the mean of cos u."""

UTTERANCES = 64
"""Of the made-up set."""


def measure_training(
    cell: Cell,
    limits: Limits,
    device: torch.device,
    *,
    roof: float | None = None,
    base_memory: int | None = None,
) -> Measured:
    """Time training steps, each of one batch of `cell.batch` windows of `cell.seconds`.

    Args:
        cell: what to train, and on how much.
        limits: steps, and seconds that they and the products beside them may take together.
        device: where.
        roof: FLOP/s of the machine, to foresee a step that is too long.
        base_memory: what `Measured` keeps under that name.

    Raises:
        TooLong: if one step takes more than the budget.
    """
    config, frames = soundstorm_shape(cell.what, cell.levels), frames_of(cell.seconds)
    masked = cell.batch * frames * MASKED
    flops = float(training_flops(config, frames, rows=cell.batch, masked=round(masked)))
    if roof and flops / roof > limits.budget:
        raise TooLong(_too_long("would take about", flops / roof, limits))
    products = step_products(config, frames, rows=cell.batch, masked=masked)
    numbers = numbers_of(cell.task, cell.precision)
    with TemporaryDirectory(prefix="soundstorm-bench-") as folder:
        store = made_up_store(Path(folder) / "tokens", cell)
        watch = Watch(products, numbers, limits, device)
        task = WatchedTask(_settings(cell), store=store, valid=None, device=device, watch=watch)
        trainer = UnsavedTrainer(task, Path(folder) / "run")
        keep_freed_memory()  # as the command does
        trainer.run(WatchingStopper(watch))
    if watch.too_long:
        raise TooLong(watch.too_long)
    median = float(np.median(watch.times))
    return Measured(
        times=watch.times,
        spent=sum(watch.times),
        flops=flops,
        moved=numbers.moved_by(products),
        products=watch.alone,
        base_memory=base_memory,
        peak_memory=watch.memory,
        more={
            "tokens_per_second": cell.batch * frames * cell.levels / median,
            "data_share": sum(watch.waits) / sum(watch.times),
        },
    )


class Watch:
    """The times of the loop's steps, and of products between them."""

    def __init__(
        self, products: Sequence[Product], numbers: Numbers, limits: Limits, device: torch.device
    ) -> None:
        """
        Args:
            products: of a step.
            numbers: that they are made of.
            limits: see `measure_training`, also for the device.
            device: where.
        """
        self._products, self._numbers = products, numbers
        self._limits, self._device = limits, device
        self.times: list[float] = []
        """Seconds of each step after the warm-up, the wait for its data included."""
        self.waits: list[float] = []
        """Seconds of these in which the loop waited for data."""
        self.alone: list[float] = []
        """Seconds of the products of a step, beside each of `times`."""
        self.memory = 0
        self.too_long = ""
        self._clock: ProductClock | None = None
        self._slices: list[float] = []
        self._asked = self._arrived = 0.0

    def arrived(self) -> None:
        """The loop has its data."""
        self._arrived = time.perf_counter()

    def over(self, step: int) -> bool:
        """The loop has made `step` steps: note the last, and say whether that is enough."""
        wait(self._device)
        now = time.perf_counter()
        taken, waited = now - self._asked, self._arrived - self._asked
        if step == WARM_UP:
            self.memory = peak_memory(self._device)
            if taken > self._limits.budget:
                self.too_long = _too_long("takes", taken, self._limits)
                return True
            self._clock = ProductClock(self._products, self._numbers, self._device)
        if step >= WARM_UP:
            self._measure_products(taken)
        if step > WARM_UP:
            self.times.append(taken)
            self.waits.append(waited)
            self.alone.append((self._slices[-2] + self._slices[-1]) / 2)
        enough = len(self.times) >= self._limits.repeats
        spent = (1 + 2 * PRODUCTS_SHARE) * (sum(self.times) + taken)
        self._asked = time.perf_counter()
        return enough or (bool(self.times) and spent > self._limits.budget)

    def _measure_products(self, taken: float) -> None:
        assert self._clock is not None
        self._slices.append(self._clock.measure(PRODUCTS_SHARE * taken))


class WatchedTask(SoundStormTask):
    """Training of SoundStorm that tells when it has data."""

    def __init__(self, *arguments: Any, watch: Watch, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._watch = watch

    def turns(self, step: int) -> Sequence[str]:
        self._watch.arrived()
        return super().turns(step)


class WatchingStopper(Stopper):
    """Stops when the watch has seen enough."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(StopLimits())
        self._watch = watch

    def is_over(self, step: int) -> bool:
        return self._watch.over(step)


class UnsavedTrainer(Trainer[TokenBatch]):
    """The loop without what it writes at its end: gigabytes, of a large network."""

    def save(self) -> None:
        """Nothing is kept."""


def made_up_store(folder: Path, cell: Cell) -> TokenStore:
    """Random tokens in the files that training maps, each utterance a window long."""
    config, frames = soundstorm_shape(cell.what, cell.levels), frames_of(cell.seconds)
    random = np.random.default_rng(0)
    specs = token_specs(config)

    def write(target: Path) -> dict[str, Any]:
        total = UTTERANCES * frames
        semantic = random.integers(config.semantic_codebook_size, size=total, dtype=np.uint16)
        acoustic = random.integers(
            config.codebook_size, size=(total, config.levels), dtype=np.uint16
        )
        semantic.tofile(target / "semantic.u16")
        acoustic.tofile(target / "acoustic.u16")
        return {
            "lengths": [frames] * UTTERANCES,
            "speakers": [None] * UTTERANCES,
            **{kind: spec.to_json() for kind, spec in specs.items()},
        }

    write_once(folder, write)
    return open_store(folder, fingerprint="0" * 64)


def _settings(cell: Cell) -> TrainingSettings:
    """The preset's, but for the batch: one micro-batch of whole windows."""
    seconds, rate = float(cell.seconds), float(ACOUSTIC_RATE)
    return overlay(
        preset("soundstorm", cell.what),
        {
            "batch_size": cell.batch,
            "micro_batch_seconds": (frames_of(cell.seconds) * cell.batch + 0.5) / rate,
            "precision": cell.precision,
            "data": {"min_seconds": seconds, "max_seconds": seconds, "speaker_power": 1.0},
        },
        where="the benchmark",
    )


def _too_long(words: str, seconds: float, limits: Limits) -> str:
    return (
        f"one step {words} {seconds:.3g} s, more than the {limits.budget:g} s of --budget-seconds"
    )
