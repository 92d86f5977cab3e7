"""AudioLM's stages in the loop: they learn, resume, validate by level, export and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.audiolm.config import STAGES
from stages.audiolm.model import from_model_file
from stages.errors import DataMismatch
from stages.shards.reader import open_rows
from stages.training.distributed import Processes
from stages.training.loop import Trainer
from stages.training.presets import PRESETS, preset
from stages.training.settings import overlay
from stages.training.stopping import Limits, Stopper
from stages.training.tasks.registry import TaskInputs, build_task
from stages.training.windows import Window

LEVELS, CODES, SEMANTIC_CODES = 3, 8, 10
MODELS = ["audiolm-semantic", "audiolm-coarse", "audiolm-fine"]
MakeTask = Callable[..., Any]


@pytest.fixture
def make_task(token_set: Path) -> MakeTask:
    """`make_task(run, model, valid=False, **changes of settings)`: a tiny stage."""

    def make(
        run: Path, model: str, *, valid: bool = False, tokens: Path = token_set, **changes: Any
    ) -> Any:
        network = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 32, "dropout": 0.1}
        if model == "audiolm-coarse":
            network["levels"] = 2
        if model == "audiolm-fine":
            network["coarse_levels"] = 2
        tiny = {
            "batch_size": 6,
            "micro_batch_seconds": 2.0,
            "log_every": 1,
            "valid_every": 1000,
            "valid_examples": 8,
            "optimiser": {"learning_rate": 1e-2, "warmup_steps": 2, "decay_steps": 50},
            "data": {"min_seconds": 0.2, "max_seconds": 1.5},
            "network": network,
        }
        settings = overlay(overlay(preset(model, "mini"), tiny, where="t"), changes, where="t")
        with open_rows(tokens) as source:
            inputs = TaskInputs(
                train=source,
                valid=open_rows(token_set) if valid else None,
                run=run,
                device=torch.device("cpu"),
                processes=Processes(),
                warn=lambda text: None,
            )
            return build_task(settings, inputs)

    return make


def run_to(task: Any, run: Path, steps: int) -> Trainer[Any]:
    trainer = Trainer(task, run)
    trainer.resume()
    with Stopper(Limits(max_steps=steps)) as stopper:
        trainer.run(stopper)
    return trainer


def logged(run: Path) -> list[dict[str, float]]:
    """`metrics.jsonl` without timings."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in line.items() if "per_second" not in name} for line in lines]


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_is_an_undisturbed_one(
    model: str, make_task: MakeTask, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_to(make_task(whole, model), whole, 4)
    run_to(make_task(broken, model), broken, 2)
    run_to(make_task(broken, model), broken, 4)
    assert logged(broken) == logged(whole)
    stage = STAGES[model.removeprefix("audiolm-")]
    theirs, ours = (from_model_file(run, stage, torch.device("cpu")) for run in (whole, broken))
    assert theirs.fingerprint == ours.fingerprint
    assert (
        set(theirs.tokens)
        == {
            "audiolm-semantic": {"semantic"},
            "audiolm-coarse": {"semantic", "acoustic"},
            "audiolm-fine": {"acoustic"},
        }[model]
    )


@pytest.mark.parametrize(
    ("model", "levels"),
    [("audiolm-semantic", []), ("audiolm-coarse", [1, 2]), ("audiolm-fine", [3])],
)
def test_it_learns(model: str, levels: list[int], make_task: MakeTask, tmp_path: Path) -> None:
    """Acoustic tokens follow from semantic ones here, so coarse and fine can be known."""
    steps = 10 if model == "audiolm-semantic" else 60
    trainer = run_to(
        make_task(tmp_path, model, valid=True, network={"dropout": 0.0}), tmp_path, steps
    )
    losses = [line["train/loss"] for line in logged(tmp_path) if "train/loss" in line]
    if levels:
        assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    expected = {"valid/loss", "valid/accuracy"}
    expected |= {f"valid/loss/level_{level:02d}" for level in levels}
    expected |= {f"valid/accuracy/level_{level:02d}" for level in levels}
    assert {name for name in trainer.latest if name.startswith("valid/")} >= expected
    by_level = {name for name in trainer.latest if name.startswith("valid/loss/level")}
    assert len(by_level) == len(levels)


@pytest.mark.parametrize("model", MODELS)
def test_micro_batches_add_up_to_the_whole_batch(
    model: str, make_task: MakeTask, tmp_path: Path
) -> None:
    no_dropout = {"dropout": 0.0}
    whole = make_task(tmp_path, model, micro_batch_seconds=1000.0, network=no_dropout)
    parts = make_task(tmp_path, model, micro_batch_seconds=0.01, network=no_dropout)
    assert len(whole.data.micro_batches(0, 0, 1)) == 1
    assert len(parts.data.micro_batches(0, 0, 1)) == 6
    run_to(whole, tmp_path / "whole", 3)
    run_to(parts, tmp_path / "parts", 3)
    for one, other in zip(logged(tmp_path / "whole"), logged(tmp_path / "parts"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(("model", "per_frame"), [("audiolm-coarse", 2), ("audiolm-fine", 1)])
def test_validation_scores_every_token_once(
    model: str, per_frame: int, make_task: MakeTask, tmp_path: Path
) -> None:
    """In chunks of half a second, one after the other."""
    chunks = {"chunk_seconds": 0.5, "overlap_seconds": 0.1}
    task = make_task(
        tmp_path, model, valid=True, valid_examples=100, network=chunks, data={"max_seconds": 0.5}
    )
    counted: list[int] = []
    summary = task._summary

    def count(totals: torch.Tensor) -> dict[str, float]:
        counted.append(int(totals[1].sum()))
        scores: dict[str, float] = summary(totals)
        return scores

    task._summary = count
    first = task.validate(task.network.eval())
    assert counted == [per_frame * int(task.valid.lengths.sum())]
    assert task.validate(task.network) == first


def test_semantic_tokens_need_no_acoustic_ones(
    make_task: MakeTask, tmp_path: Path, write_tokens: Any, token_rows: Any
) -> None:
    """They are kept at their own rate, every one of them, and a window knows where it lies."""
    rows = token_rows(5)
    task = make_task(
        tmp_path / "run", "audiolm-semantic", tokens=write_tokens(tmp_path / "t", rows)
    )
    assert task.store.lengths.tolist() == [len(row["semantic"]) for row in rows]
    for index, row in enumerate(rows):
        assert np.array_equal(task.store.slice(index, 0, len(row["semantic"])), row["semantic"])

    def entries(start: int, length: int) -> list[int]:
        window = Window(example=1, start=start, length=length, seed=0)
        found: list[int] = task.sequence(task.store, window).entries.tolist()
        return found

    tokens = rows[1]["semantic"].tolist()
    begin, middle, end = task.config.begin, task.config.middle, task.config.end
    assert entries(0, len(tokens)) == [begin, *tokens, end]
    assert entries(0, 4) == [begin, *tokens[:4]]
    assert entries(3, 4) == [middle, *tokens[3:7]]


@pytest.mark.parametrize("model", MODELS)
def test_starts_from_another_model(model: str, make_task: MakeTask, tmp_path: Path) -> None:
    first = make_task(tmp_path / "a", model)
    run_to(first, tmp_path / "a", 1)
    second = make_task(tmp_path / "b", model, seed=1)
    second.initialise(tmp_path / "a")
    stage = STAGES[model.removeprefix("audiolm-")]
    saved = from_model_file(tmp_path / "a", stage, torch.device("cpu")).network.state_dict()
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, saved[name]), name
    wider = make_task(tmp_path / "c", model, network={"width": 32})
    with pytest.raises(
        DataMismatch, match=r"has another network than .*: width is 16 there and 32 here$"
    ):
        wider.initialise(tmp_path / "a")


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        ("audiolm-coarse", {"data": {"max_seconds": 11.0}}, "data.max_seconds is 11 and a chunk"),
        ("audiolm-coarse", {"network": {"levels": 4}}, "4 levels while its acoustic tokens have 3"),
        ("audiolm-fine", {"network": {"coarse_levels": 3}}, "at least one level"),
        ("audiolm-semantic", {"network": {"levels": 1}}, "sets levels, which is none of"),
        ("audiolm-semantic", {"recipe": {"codec": "mini"}}, "has no acoustic tokens: leave out"),
        ("audiolm-fine", {"recipe": {"kmeans": "mini"}}, "has no semantic tokens: leave out"),
        ("audiolm-coarse", {"recipe": {"kmeans": "mini"}}, "do not fit"),
        ("audiolm-coarse", {"recipe": {"centroids": True}}, "name it with --kmeans"),
        ("audiolm-coarse", {"network": {"centroid_dim": 3}}, r"follows from recipe\.centroids"),
        ("audiolm-coarse", {"recipe": {"frames": 1}}, "there is no setting recipe.frames"),
    ],
)
def test_refusals(
    model: str, changes: dict[str, Any], sentence: str, make_task: MakeTask, tmp_path: Path
) -> None:
    with pytest.raises(DataMismatch, match=sentence):
        make_task(tmp_path, model, **changes)


@pytest.mark.parametrize("model", MODELS)
def test_presets(model: str) -> None:
    """Windows are chunks, and the mini coarse and fine stages have SoundStorm's parameters."""
    assert set(PRESETS[model]) == {"mini", "base", "350m"}
    sizes = {"semantic_codebook_size": 4096, "codebook_size": 1024, "levels": 12}
    wanted = {"audiolm-semantic": 1, "audiolm-coarse": 2, "audiolm-fine": 3}[model]
    known = dict(list(sizes.items())[:wanted][-2:])
    for name in PRESETS[model]:
        settings = preset(model, name)
        config = STAGES[model.removeprefix("audiolm-")].from_json(
            {**known, **settings.network}, where=name
        )
        assert settings.data.max_seconds == config.chunk_seconds
