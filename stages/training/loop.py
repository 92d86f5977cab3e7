"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn

from stages.errors import DataMismatch, StageFailure
from stages.nn.saved_weights import as_saved
from stages.training.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_optimiser_tensors,
    optimiser_tensors,
    save_checkpoint,
    take,
)
from stages.training.distributed import Processes
from stages.training.ema import WeightAverage
from stages.training.loading import Unread, batches_from, worker_deaths_told
from stages.training.metrics import Meter, MetricsWriter
from stages.training.origin import fingerprint_of, require_same_origin
from stages.training.seeds import derive_seed
from stages.training.settings import require_same_settings
from stages.training.stopping import Stopper
from stages.training.task import MODEL, Batch, Task, parameter_groups
from stages.version import __version__

CHECKPOINTS_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How an invocation ended."""

    step: int
    """Updates made, those of earlier invocations included."""

    start_step: int
    """Updates there were when it began."""

    seconds: float
    """Of training, over all invocations."""

    interrupted: bool
    """By Ctrl-C; all is saved."""

    metrics: dict[str, float]
    """The last of each number that was logged."""


class Trainer(Generic[Batch]):
    """Trains one task in one run folder, from its last checkpoint if it has one."""

    def __init__(
        self,
        task: Task[Batch],
        run: Path,
        *,
        init: Path | None = None,
        processes: Processes | None = None,
        workers: int = 0,
        report: Callable[[int, dict[str, float]], None] = lambda step, values: None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Make ready to train.

        Args:
            task: what to train; its networks are trained in place.
            run: the folder of the run, made if need be.
            init: a model folder whose weights a run without a checkpoint starts from.
            processes: those that train together.
            workers: processes that make batches ahead.
            report: called with a step and its numbers whenever some are logged.
            warn: called with a sentence for the user.

        Raises:
            DataMismatch: if there are more processes than windows in a batch, or the model in
                `init` does not fit.
        """
        self.task, self.run_folder = task, run
        self.settings = task.settings
        self.processes = processes or Processes()
        if self.processes.world > self.settings.batch_size:
            raise DataMismatch(
                f"a batch of {self.settings.batch_size} windows does not feed "
                f"{self.processes.world} processes: raise batch_size or start fewer"
            )
        self.workers, self.report, self.warn = workers, report, warn
        self.step = 0
        self.seconds = 0.0
        self.latest: dict[str, float] = {}
        self._meter = Meter()
        self._as_it_starts = False
        self._init = init
        self._origin: str | None = self._start_from(init)
        for module in task.players.values():
            self.processes.share_weights(module.train())
        self._optimisers = {
            player: self._optimiser(module) for player, module in task.players.items()
        }
        self._average = WeightAverage(task.players[MODEL], self.settings.ema_decay)
        self._board: MetricsWriter | None = None

    def _start_from(self, init: Path | None) -> str:
        """Take a model's weights, unless a checkpoint has newer ones; gives its fingerprint."""
        if init is None or has_checkpoint(self.run_folder / CHECKPOINTS_NAME):
            return ""
        self.task.initialise(init)
        return fingerprint_of(init)

    def _optimiser(self, module: nn.Module) -> torch.optim.Optimizer:
        optimiser = self.settings.optimiser
        return torch.optim.AdamW(
            parameter_groups(module, optimiser.weight_decay),
            lr=optimiser.learning_rate,
            betas=(optimiser.beta1, optimiser.beta2),
            fused=True,
        )

    def resume(self) -> bool:
        """Go back to the run's last checkpoint; False where it has none.

        Raises:
            DataMismatch: if it was made under other settings, from other data or from another
                `init`, which need not be there any more.
        """
        saved = load_checkpoint(self.run_folder / CHECKPOINTS_NAME, self.warn)
        if saved is None:
            return False
        where = str(self.run_folder)
        require_same_settings(self.settings.to_json(), saved.settings, run=where)
        if saved.data_fingerprint != self.task.data_fingerprint:
            raise DataMismatch(
                f"{where} was started on other training data: resume it on the same, or use "
                "another -o"
            )
        if self._init is not None:
            require_same_origin(self._init, saved.origin, run=where)
        self._origin = saved.origin
        self._put_back(self.task.players, saved.tensors)
        self._average.load_state_dict(take(saved.tensors, "average/"))
        if self.processes.is_first:  # it has what all of them counted
            self._meter.load_state(take(saved.tensors, "meter/"))
        self.step, self.seconds = saved.step, saved.seconds
        return True

    def save(self) -> None:
        """Write a checkpoint and the model folder; all processes call it, the first one writes.

        A model without a step is written only where none was asked for.
        """
        counted = self._meter.gathered(self.processes, self.task.device)
        if not self.processes.is_first:
            return
        tensors = self._copies(self.task.players)
        tensors |= _under("average/", self._average.state_dict())
        tensors |= _under("meter/", counted)
        checkpoint = Checkpoint(
            step=self.step,
            settings=self.settings.to_json(),
            data_fingerprint=self.task.data_fingerprint,
            seconds=self.seconds,
            origin=self._origin,
            tensors=tensors,
        )
        save_checkpoint(self.run_folder / CHECKPOINTS_NAME, checkpoint)
        if not (self.step or self._as_it_starts):
            return
        extra = {
            "version": __version__,
            "steps": self.step,
            "settings": self.settings.to_json(),
            "data": self.task.data_fingerprint,
        }
        self.task.export(self.run_folder, self._weights_to_save(), extra)

    def _copies(self, players: Iterable[str]) -> dict[str, Tensor]:
        """Of some players' weights and optimisers, and of the task's own state, as checkpoints
        name them."""
        tensors: dict[str, Tensor] = {}
        for player in players:
            module = self.task.players[player]
            tensors |= _under(f"{player}/weights/", module.state_dict())
            tensors |= _under(
                f"{player}/optimiser/", optimiser_tensors(self._optimisers[player], module)
            )
        return tensors | _under("task/", self.task.state())

    def _put_back(self, players: Iterable[str], tensors: Mapping[str, Tensor]) -> None:
        """Take back what `_copies` gave of the same players."""
        for player in players:
            module, optimiser = self.task.players[player], self._optimisers[player]
            module.load_state_dict(take(tensors, f"{player}/weights/"))
            optimiser.state.clear()  # before its first step it has none
            load_optimiser_tensors(optimiser, module, take(tensors, f"{player}/optimiser/"))
        self.task.load_state(take(tensors, "task/"))

    def _weights_to_save(self) -> dict[str, Tensor]:
        """The averaged weights as the model folder is to hold them."""
        return as_saved(
            self._average.state_dict(),
            self.settings.saved_precision,
            exact=self.task.exact_weights,
        )

    def run(self, stopper: Stopper) -> TrainingResult:
        """Train until `stopper` says it is over, then save.

        All is saved before the last validation, which a scheduler that is about to kill the run
        may not leave the time for.

        Raises:
            StageFailure: if the loss or a gradient is no finite number, all being saved first as
                it was before that step; if the run's folder cannot be written; if no data can be
                read.
        """
        start = self.step
        self._as_it_starts = stopper.limits.max_steps == 0
        try:
            if self.processes.is_first:
                self._board = MetricsWriter(self.run_folder, resume_step=self.step)
            with worker_deaths_told():
                self._steps(stopper)
            self.save()
            if self.step > start:
                self._validate()
            elif not (self.step or self._as_it_starts):
                self.warn(
                    "the run was over before its first step, so nothing was learnt yet and no "
                    f"model was written to {self.run_folder}: the same command goes on"
                )
        except OSError as error:
            raise StageFailure(f"{self.run_folder} cannot be written ({error})") from error
        finally:
            if self._board is not None:
                self._board.close()
        return TrainingResult(
            step=self.step,
            start_step=start,
            seconds=self.seconds,
            interrupted=stopper.interrupted,
            metrics=self.latest,
        )

    def _steps(self, stopper: Stopper) -> None:
        if self._agreed(stopper.is_over(self.step))[0]:
            return
        self.task.prepare()
        batches = batches_from(
            self.task.data,
            start=self.step,
            rank=self.processes.rank,
            world=self.processes.world,
            workers=self.workers,
            warn=self.warn,
        )
        saved = logged = clock = time.monotonic()
        start = logged_step = self.step
        read = False
        for batch in batches:
            read = read or not isinstance(batch, Unread)
            self._step(batch)
            now = time.monotonic()
            self.seconds += now - clock
            clock = now
            if self.step % self.settings.log_every == 0:
                rate = (self.step - logged_step) / (now - logged)
                self._log(rate)
                logged, logged_step = now, self.step
            over, due = self._agreed(
                stopper.is_over(self.step), now - saved > 60 * stopper.limits.checkpoint_minutes
            )
            if over:
                break
            validated = self.step % self.settings.valid_every == 0
            if validated:
                self._validate()
            if due:
                self.save()
                saved = time.monotonic()
            if validated or due:  # neither counts as training
                clock = logged = time.monotonic()
                logged_step = self.step
        if not self._agreed(read)[0]:
            assert isinstance(batch, Unread)
            raise StageFailure(
                "nothing of the training data could be read, so nothing was learnt in "
                f"{self.step - start} steps; the last: {batch.problems[0]}"
            )

    def _agreed(self, *wishes: bool) -> list[bool]:
        """What any of the processes wishes: they stop and save together."""
        if self.processes.world == 1:  # a GPU need not be asked, and waited for
            return list(wishes)
        wanted = torch.tensor(wishes, dtype=torch.float32, device=self.task.device)
        return [bool(count) for count in self.processes.sum(wanted).tolist()]

    def _step(self, batch: Sequence[Batch]) -> None:
        """Update all players whose turn it is from this process's micro-batches.

        Raises:
            StageFailure: if a loss or gradient is no finite number.
        """
        turns = self.task.turns(self.step)
        before = self._copies(turns[:-1])  # the last one's update fails before its weights change
        counted = Meter()
        try:
            for player in turns:
                self._update(player, batch, counted)
        except FloatingPointError as error:
            self._put_back(turns[:-1], before)
            self.save()
            raise StageFailure(
                f"{error}: the weights before that step are saved in {self.run_folder}; lower "
                "optimiser.learning_rate or optimiser.clip_norm in a new run"
            ) from error
        self._meter.take_in(counted)  # only now: a step that fails is not counted
        self._average.update(self.task.players[MODEL], self.step)
        self.step += 1

    def _update(self, player: str, batch: Sequence[Batch], counted: Meter) -> None:
        """One update of one player from this process's micro-batches of a step.

        Raises:
            FloatingPointError: if the loss or the gradient is no finite number; the player's
                weights are then as they were.
        """
        optimiser = self._optimisers[player]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        former = [p.grad for p in parameters if p.grad is not None]
        if former:
            torch._foreach_zero_(former)
        for parameter in parameters:  # zeros, not None: what has no gradient still decays
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        total = torch.zeros(2, dtype=torch.float64, device=self.task.device)
        for index, micro_batch in enumerate(batch):
            torch.manual_seed(
                derive_seed(
                    self.settings.seed, "torch", player, self.step, self.processes.rank, index
                )
            )
            with torch.autocast(
                self.task.device.type,
                dtype=torch.bfloat16,
                enabled=self.settings.precision == "bfloat16",
            ):
                output = self.task.loss(player, micro_batch, self.step)
            torch.autograd.backward(output.loss)
            total += torch.stack((output.loss.detach(), output.weight)).double()
            for name, part in output.parts.items():
                counted.add(f"train/{name}", part)
        if not self.task.surrogate:
            counted.add("train/loss" if player == MODEL else f"train/{player}/loss", total)
        self._apply(player, parameters, total, counted)
        self.processes.average(self.task.statistics(player))

    def _apply(
        self, player: str, parameters: list[nn.Parameter], total: Tensor, counted: Meter
    ) -> None:
        """Turn summed gradients into the mean's, clip them, and step."""
        self.processes.sum_gradients(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        unscaled = torch.nn.utils.get_total_norm(gradients).double()
        sums = self.processes.sum(total.clone())
        loss, weight, norm = torch.cat((sums, unscaled[None])).tolist()  # one wait, not many
        scale = 1.0 / max(weight, 1.0)
        norm *= scale
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss of {player} at step {self.step} is {loss * scale}, its gradient's norm "
                f"{norm}"
            )
        limit = self.settings.optimiser.clip_norm
        if limit and norm > limit:
            scale *= limit / norm
        torch._foreach_mul_(gradients, scale)
        optimiser = self._optimisers[player]
        for group in optimiser.param_groups:
            group["lr"] = self.task.learning_rate(player, self.step)
        optimiser.step()
        prefix = "" if player == MODEL else f"{player}/"
        # On the CPU, where the norm is: a copy to a GPU would wait for it once more.
        one = torch.tensor([norm, 1.0], dtype=torch.float64)
        counted.add(f"train/{prefix}gradient_norm", one)

    def _log(self, rate: float) -> None:
        values = self._meter.means(self.processes, self.task.device)
        values["train/learning_rate"] = self.task.learning_rate(MODEL, self.step - 1)
        self._publish(values, timing={"train/steps_per_second": rate})

    def _validate(self) -> None:
        """The first process scores the averaged weights; the others go on to wait for it."""
        if not self.processes.is_first:
            return
        # Without an average the last weights are what is exported, and so what is scored.
        values = self.task.validate(self._average.module)
        if values:
            self._publish({f"valid/{name}": value for name, value in values.items()})

    def _publish(self, values: dict[str, float], timing: Mapping[str, float] | None = None) -> None:
        values = {**values, **(timing or {})}
        self.latest |= values
        if self._board is not None:
            self._board.write(self.step, values)
        if self.processes.is_first:
            self.report(self.step, values)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Cloned, since two names may share storage, which safetensors refuses to write.
    return {f"{prefix}{name}": value.detach().clone() for name, value in tensors.items()}


def describe(values: Mapping[str, Any]) -> str:
    """The numbers worth a line of a terminal."""
    names = {
        "train/loss": "loss {:.4f}",
        "train/gradient_norm": "gradient {:.3f}",
        "train/learning_rate": "rate {:.2e}",
        "train/steps_per_second": "{:.2f} steps/s",
        "valid/loss": "validation loss {:.4f}",
        "valid/accuracy": "accuracy {:.4f}",
    }
    return "  ".join(form.format(values[name]) for name, form in names.items() if name in values)
