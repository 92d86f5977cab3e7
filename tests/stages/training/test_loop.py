"""The loop: exact resume, accumulation, logging, what stops it and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.errors import DataMismatch, StageFailure
from stages.nn.model_file import WEIGHTS_NAME
from stages.soundstorm.model import from_model_file
from stages.training.distributed import Processes
from stages.training.loop import Trainer
from stages.training.metrics import Meter
from stages.training.stopping import Limits, Stopper
from stages.training.task import StepOutput, parameter_groups

MakeTask = Callable[..., Any]


def run_to(task: Any, run: Path, steps: int, **options: Any) -> Trainer[Any]:
    trainer = Trainer(task, run, **options)
    trainer.resume()
    with Stopper(Limits(max_steps=steps)) as stopper:
        trainer.run(stopper)
    return trainer


def logged(run: Path) -> list[dict[str, float]]:
    """`metrics.jsonl` without timings."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if "per_second" not in name} for line in lines
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(
    make_task: MakeTask, tmp_path: Path, workers: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = run_to(make_task(whole), whole, 7)
    run_to(make_task(broken), broken, 3, workers=workers)
    resumed = run_to(make_task(broken), broken, 7, workers=workers)
    assert logged(broken) == logged(whole)
    assert [line["step"] for line in logged(whole)] == [1, 2, 3, 4, 5, 6, 7]
    for name, value in undisturbed.task.network.state_dict().items():
        assert torch.equal(value, resumed.task.network.state_dict()[name]), name
    theirs = from_model_file(whole, torch.device("cpu")).network.state_dict()
    ours = from_model_file(broken, torch.device("cpu")).network.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_resume_between_two_log_lines_keeps_what_was_counted(
    make_task: MakeTask, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_to(make_task(whole, log_every=4), whole, 4)
    run_to(make_task(broken, log_every=4), broken, 3)
    run_to(make_task(broken, log_every=4), broken, 4)
    assert logged(broken) == logged(whole)


def test_lines_past_the_checkpoint_are_dropped_on_resume(
    make_task: MakeTask, tmp_path: Path
) -> None:
    run_to(make_task(tmp_path), tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/loss": 9.0}\n{"step": 4, "tra')
    run_to(make_task(tmp_path), tmp_path, 3)
    lines = logged(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train/loss"] != 9.0


def test_a_model_can_be_saved_at_half_its_size(make_task: MakeTask, tmp_path: Path) -> None:
    """What is resumed stays exact; what is loaded is float32 again, rounded once."""
    whole, half = tmp_path / "whole", tmp_path / "half"
    run_to(make_task(whole), whole, 2)
    run_to(make_task(half, saved_precision="float16"), half, 1)
    run_to(make_task(half, saved_precision="float16"), half, 2)
    assert logged(half) == logged(whole)
    sizes = [(run / WEIGHTS_NAME).stat().st_size for run in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    exact = from_model_file(whole, torch.device("cpu")).network.state_dict()
    loaded = from_model_file(half, torch.device("cpu")).network.state_dict()
    for name, value in exact.items():
        assert torch.equal(loaded[name], value.half().float()), name


def test_micro_batches_add_up_to_the_whole_batch(make_task: MakeTask, tmp_path: Path) -> None:
    """A token-weighted mean: micro-batches of one window each change nothing but rounding."""
    no_dropout = {"layers": 1, "dropout": 0.0}
    whole = make_task(tmp_path, micro_batch_seconds=1000.0, network=no_dropout)
    parts = make_task(tmp_path, micro_batch_seconds=0.01, network=no_dropout)
    assert len(whole.data.micro_batches(0, 0, 1)) == 1
    assert len(parts.data.micro_batches(0, 0, 1)) == 6
    run_to(whole, tmp_path / "whole", 4)
    run_to(parts, tmp_path / "parts", 4)
    for one, other in zip(logged(tmp_path / "whole"), logged(tmp_path / "parts"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_it_learns(make_task: MakeTask, tmp_path: Path) -> None:
    trainer = run_to(make_task(tmp_path, valid=True, network={"dropout": 0.0}), tmp_path, 60)
    lines = logged(tmp_path)
    steps = [line["train/loss"] for line in lines if "train/loss" in line]
    assert sum(steps[-5:]) < 0.7 * sum(steps[:5])
    valid = {name for name in trainer.latest if name.startswith("valid/")}
    assert {"valid/loss", "valid/accuracy", "valid/loss/level_01", "valid/loss/level_03"} <= valid
    assert any(name.startswith("valid/accuracy/ratio_") for name in valid)
    assert {"train/loss/level_01", "train/gradient_norm", "train/learning_rate"} <= set(lines[0])
    assert list((tmp_path / "tensorboard").iterdir())


def test_validation_is_the_same_each_time(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(tmp_path, valid=True)
    task.network.eval()
    first = task.validate(task.network)
    torch.rand(3)
    assert task.validate(task.network) == first


def test_few_utterances_test_every_level(make_task: MakeTask, tmp_path: Path) -> None:
    scores = make_task(tmp_path, valid=True, valid_examples=1).validate(
        make_task(tmp_path).network.eval()
    )
    assert {f"loss/level_0{level}" for level in (1, 2, 3)} <= set(scores)


def test_other_settings_or_data_are_refused(
    make_task: MakeTask, tmp_path: Path, write_tokens: Any, token_rows: Any
) -> None:
    run_to(make_task(tmp_path), tmp_path, 1)
    with pytest.raises(DataMismatch, match=r"optimiser.beta2 = 0.999, not 0.9:"):
        Trainer(make_task(tmp_path, optimiser={"beta2": 0.9}), tmp_path).resume()
    task = make_task(tmp_path)
    task.data_fingerprint = "0" * 64
    with pytest.raises(DataMismatch, match="other training data"):
        Trainer(task, tmp_path).resume()


def test_a_signal_ends_the_step_and_saves(make_task: MakeTask, tmp_path: Path) -> None:
    for number, interrupted in ((signal.SIGTERM, False), (signal.SIGINT, True)):
        run = tmp_path / str(int(number))
        trainer = Trainer(
            make_task(run),
            run,
            report=lambda step, values, number=number: (  # type: ignore[misc]
                os.kill(os.getpid(), number) if step == 2 else None
            ),
        )
        with Stopper(Limits(max_steps=50)) as stopper:
            result = trainer.run(stopper)
        assert (result.step, result.interrupted) == (2, interrupted)
        assert (run / "checkpoint" / "step-00000002" / "state.json").exists()
        assert (run / "config.json").exists()


def test_minutes_end_a_run(make_task: MakeTask, tmp_path: Path) -> None:
    times = iter(range(0, 10_000, 25))
    stopper = Stopper(Limits(max_minutes=1.0), clock=lambda: float(next(times)))
    result = Trainer(make_task(tmp_path), tmp_path).run(stopper)
    assert result.step == 2  # asked at 25 s, 50 s, 75 s


def test_without_a_step_there_is_no_model_unless_none_was_asked_for(
    make_task: MakeTask, tmp_path: Path
) -> None:
    """And what was worked out before it is kept for the next time."""
    warnings: list[str] = []
    trainer = Trainer(make_task(tmp_path), tmp_path, warn=warnings.append)
    assert trainer.run(Stopper(Limits(max_minutes=0.0))).step == 0
    assert warnings == [
        "the run was over before its first step, so nothing was learnt yet and no model was "
        f"written to {tmp_path}: the same command goes on"
    ]
    assert not (tmp_path / "config.json").exists()
    run_to(make_task(tmp_path), tmp_path, 1, warn=pytest.fail)
    (tmp_path / "config.json").unlink()
    again = Trainer(make_task(tmp_path), tmp_path, warn=pytest.fail)
    assert again.resume()
    again.run(Stopper(Limits(max_minutes=0.0)))  # it has a step, of the last time
    assert (tmp_path / "config.json").exists()
    run_to(make_task(tmp_path / "as-it-starts"), tmp_path / "as-it-starts", 0, warn=pytest.fail)
    assert (tmp_path / "as-it-starts" / "config.json").exists()


def test_checkpoints_are_written_on_the_way(make_task: MakeTask, tmp_path: Path) -> None:
    trainer = Trainer(make_task(tmp_path), tmp_path)
    seen: list[list[str]] = []
    trainer.report = lambda step, values: seen.append(
        sorted(path.name for path in (tmp_path / "checkpoint").glob("*"))
    )
    with Stopper(Limits(max_steps=4, checkpoint_minutes=0.0)) as stopper:
        trainer.run(stopper)
    assert seen[3] == ["step-00000002", "step-00000003"]


def test_a_loss_that_is_no_number_loses_nothing(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(tmp_path)
    honest = task.loss

    def poisoned(player: str, batch: Any, step: int) -> StepOutput:
        output = honest(player, batch, step)
        factor = float("nan") if step == 2 else 1.0
        return StepOutput(loss=output.loss * factor, weight=output.weight, parts=output.parts)

    task.loss = poisoned
    with pytest.raises(StageFailure, match="at step 2 is nan"):
        run_to(task, tmp_path, 5)
    assert all(bool(value.isfinite().all()) for value in task.network.state_dict().values())
    assert run_to(make_task(tmp_path), tmp_path, 4).step == 4
    run_to(make_task(tmp_path / "whole"), tmp_path / "whole", 4)
    assert logged(tmp_path) == logged(tmp_path / "whole")


def test_all_is_saved_before_the_last_validation(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(tmp_path, valid=True, valid_every=2)
    saved: list[list[str]] = []

    def validate(model: Any) -> dict[str, float]:
        del model
        names = [path.name for path in (tmp_path / "checkpoint").glob("*")]
        saved.append([*names, *(path.name for path in tmp_path.glob("config.json"))])
        return {"loss": 1.0}

    task.validate = validate
    run_to(task, tmp_path, 4)
    assert saved == [[], ["step-00000004", "config.json"]]


def test_a_pause_does_not_count_as_speed(make_task: MakeTask, tmp_path: Path) -> None:
    """Steps a second are of the steps since the last pause, over the time since it."""
    task = make_task(tmp_path, valid=True, log_every=4, valid_every=3)
    honest, validate = task.loss, task.validate

    def slow(player: str, batch: Any, step: int) -> StepOutput:
        if step == 3:
            time.sleep(0.5)
        output: StepOutput = honest(player, batch, step)
        return output

    def validate_slowly(model: Any) -> Any:
        time.sleep(0.5)
        return validate(model)

    task.loss, task.validate = slow, validate_slowly
    trainer = run_to(task, tmp_path, 4)
    assert trainer.latest["train/steps_per_second"] < 2.0  # the fourth step alone


def test_a_folder_that_cannot_be_written_is_a_sentence(make_task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageFailure, match=r"file/run cannot be written"):
        run_to(make_task(tmp_path), tmp_path / "file" / "run", 1)


def test_the_death_of_a_worker_is_a_sentence(make_task: MakeTask, tmp_path: Path) -> None:
    class Killed:
        def micro_batches(self, step: int, rank: int, world: int) -> list[Any]:
            os.kill(os.getpid(), signal.SIGKILL)
            return []

    task = make_task(tmp_path)
    task.data = Killed()
    with pytest.raises(StageFailure, match="a process that made batches was killed"):
        run_to(task, tmp_path, 4, workers=1)


def test_metrics_of_several_processes_are_saved_together() -> None:
    class Twice(Processes):
        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values * 2

    meter, resumed = Meter(), Meter()
    meter.add("loss", torch.tensor([3.0, 2.0]))
    resumed.load_state(meter.gathered(Twice(), torch.device("cpu")))
    assert {name: total.tolist() for name, total in resumed.gathered(
        Processes(), torch.device("cpu")).items()} == {"loss": [6.0, 4.0]}  # fmt: skip
    assert meter.means(Processes(), torch.device("cpu")) == {"loss": 1.5}  # still its own


def test_biases_and_vectors_do_not_decay(make_task: MakeTask, tmp_path: Path) -> None:
    network = make_task(tmp_path).network
    matrices, others = (group["params"] for group in parameter_groups(network, 0.1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert len(matrices) + len(others) == len(names)
    assert {"acoustic_table", "head_weight"} <= {names[id(parameter)] for parameter in matrices}
    assert {"head_bias", "conformer.blocks.0.norm.weight"} <= {names[id(p)] for p in others}
    assert not any(names[id(parameter)].endswith("bias") for parameter in matrices)


@pytest.mark.parametrize("change", [{"levels": 4}, {"codebook_size": 7}])
def test_a_network_of_other_tokens_is_refused(
    make_task: MakeTask, tmp_path: Path, change: dict[str, int]
) -> None:
    with pytest.raises(DataMismatch, match="while its"):
        make_task(tmp_path, network=change)


def test_starting_from_another_run(make_task: MakeTask, tmp_path: Path) -> None:
    run_to(make_task(tmp_path / "first"), tmp_path / "first", 2)
    task = make_task(tmp_path / "second", seed=5)
    task.initialise(tmp_path / "first")
    theirs = from_model_file(tmp_path / "first", torch.device("cpu")).network.state_dict()
    assert all(torch.equal(theirs[name], v) for name, v in task.network.state_dict().items())
    other = make_task(tmp_path / "third", network={"width": 32})
    with pytest.raises(
        DataMismatch,
        match=r"another network than these settings make: width is 16 there and 32 here$",
    ):
        other.initialise(tmp_path / "first")


def test_starting_from_another_run_with_other_dropout(make_task: MakeTask, tmp_path: Path) -> None:
    run_to(make_task(tmp_path / "first"), tmp_path / "first", 2)
    task = make_task(tmp_path / "second", network={"dropout": 0.4}, recipe={"drop_semantic": 0.5})
    task.initialise(tmp_path / "first")
    run_to(task, tmp_path / "second", 1)
    config = from_model_file(tmp_path / "second", torch.device("cpu")).network.config
    assert config.dropout == 0.4
    assert config.unconditional


def test_bfloat16_trains(make_task: MakeTask, tmp_path: Path) -> None:
    run_to(make_task(tmp_path, precision="bfloat16"), tmp_path, 2)
    model = from_model_file(tmp_path, torch.device("cpu"))
    assert model.network.acoustic_table.dtype == torch.float32
