"""Training to tell recordings apart: it learns, resumes exactly, and says what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from stages.audio.sources import find_utterances
from stages.consistency.model import load_consistency
from stages.errors import DataMismatch
from stages.semantic.best_rq import BestRQ, BestRQConfig, save_best_rq
from stages.shards.source import UtteranceList
from stages.training.distributed import Processes
from stages.training.loop import Trainer
from stages.training.presets import preset
from stages.training.settings import overlay
from stages.training.stopping import Limits, Stopper
from stages.training.tasks.consistency import ConsistencyTask
from stages.training.tasks.registry import TaskInputs, build_task

MakeSpeech = Callable[..., NDArray[np.float32]]
Make = Callable[..., ConsistencyTask]

SMALL: dict[str, Any] = {
    "batch_size": 4,
    "log_every": 1,
    "optimiser": {"learning_rate": 3e-3, "warmup_steps": 1, "decay_steps": 200},
    "data": {"min_seconds": 0.3, "max_seconds": 0.5},
    "network": {"heads": 2, "feed_forward": 16, "dim": 8},
}
RATE = 16_000
ROOMS = ((100, 600), (800, 2000), (2500, 7000))
"""Hz: where the noise of a room is."""


def in_room(speech: NDArray[np.float32], room: int, seed: int) -> NDArray[np.float32]:
    """Speech with the noise of a room."""
    noise = np.random.default_rng(seed).standard_normal(len(speech))
    shaped = sosfilt(butter(4, ROOMS[room], btype="band", fs=RATE, output="sos"), noise)
    return (0.1 * speech + 0.5 * shaped / np.abs(shaped).max()).astype(np.float32)


@pytest.fixture(scope="module")
def best_rq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = BestRQConfig(layers=1, heads=2, width=32, feed_forward=32, mels=20, codebook_size=8)
    folder = tmp_path_factory.mktemp("encoder") / "best-rq"
    save_best_rq(folder, config=config, weights=BestRQ(config).state_dict())
    return folder


@pytest.fixture
def make(corpus: Path, best_rq: Path) -> Make:
    """`make(run, warnings=[], source=None, **changes)`: a tiny task, on made-up speech."""

    def build(
        run: Path,
        warnings: list[str] | None = None,
        source: Path | None = None,
        processes: Processes | None = None,
        **changes: Any,
    ) -> ConsistencyTask:
        settings = overlay(preset("consistency", "mini"), SMALL, where="test")
        settings = overlay(settings, {"recipe": {"encoder": str(best_rq)}}, where="test")
        rows = find_utterances([str(source or corpus / "manifest.tsv")])
        inputs = TaskInputs(
            train=UtteranceList(rows, where="corpus"),
            valid=UtteranceList(rows, where="corpus"),
            run=run,
            device=torch.device("cpu"),
            processes=processes or Processes(),
            warn=(warnings if warnings is not None else []).append,
        )
        task = build_task(overlay(settings, changes, where="test"), inputs)
        assert isinstance(task, ConsistencyTask)
        return task

    return build


def run_to(task: ConsistencyTask, run: Path, steps: int, workers: int = 0) -> Trainer[Any]:
    trainer = Trainer(task, run, workers=workers)
    trainer.resume()
    with Stopper(Limits(max_steps=steps)) as stopper:
        trainer.run(stopper)
    return trainer


def test_rooms_are_told_apart_after_a_little_training(
    make: Make, make_speech: MakeSpeech, tmp_path: Path
) -> None:
    """Unseen voices: two in one room are more alike than any in two rooms."""
    for room in range(3):
        speech = in_room(make_speech(4.0, seed=room), room, room)
        soundfile.write(tmp_path / f"{room}.wav", speech, RATE)
    task = make(
        tmp_path / "run", source=tmp_path, batch_size=3, ema_decay=0.9,
        data={"min_seconds": 0.6, "max_seconds": 1.0}, optimiser={"learning_rate": 1e-2},
        network={"dropout": 0.0},
    )  # fmt: skip
    run_to(task, tmp_path / "run", 60)
    network, _ = load_consistency(tmp_path / "run")
    crops = np.stack(
        [
            in_room(make_speech(1.0, seed=100 + voice), room, 200 + 10 * voice + room)
            for room in range(3)
            for voice in range(4)
        ]
    )
    embedded = network.embed(torch.from_numpy(crops), torch.full((12,), crops.shape[1]))
    rooms = torch.arange(12) // 4
    similarities = embedded @ embedded.T
    same = rooms[:, None] == rooms
    within = similarities[same & ~torch.eye(12, dtype=torch.bool)].mean()
    assert float(within) > float(similarities[~same].mean()) + 0.2


def test_a_resumed_run_has_the_weights_of_an_undisturbed_one(make: Make, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_to(make(whole), whole, 4)
    run_to(make(broken), broken, 3)
    run_to(make(broken), broken, 4, workers=1)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    losses = [
        [
            {name: value for name, value in line.items() if "per_second" not in name}
            for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
            if "train/loss" in line
        ]
        for run in (whole, broken)
    ]
    assert losses[0] == losses[1]
    assert [line["step"] for line in losses[0]] == [1, 2, 3, 4]


def test_only_what_is_trained_changes(make: Make, tmp_path: Path) -> None:
    task = make(tmp_path)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    run_to(task, tmp_path, 2)
    after = load_consistency(tmp_path)[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in changed} == {"conformer", "projection", "log_scale"}


def test_validation_is_of_every_recording_with_its_chance(make: Make, tmp_path: Path) -> None:
    task = make(tmp_path)
    model = task.network.eval()
    found = task.validate(model)
    assert found == task.validate(model)
    assert found["chance"] == pytest.approx(1 / 6)
    assert found["chance_same_speaker"] == pytest.approx(1 / 3)
    pairs = torch.stack([model.embed(*task.arrive(batch)[:2]) for batch, _ in task._valid_pairs])
    nearest = (pairs[:, 0] @ pairs[:, 1].T).argmax(dim=1)
    assert found["accuracy"] == pytest.approx(float((nearest == torch.arange(6)).float().mean()))
    (window, last) = task._valid_windows[0]
    assert (window.start, window.length) == (0, 0.4 * RATE)  # half of 0.8 s
    assert last.start == 0.4 * RATE


def test_groups_are_dealt_to_processes(make: Make, tmp_path: Path) -> None:
    task = make(tmp_path, recipe={"group": 2})
    whole = task.data.micro_batches(0, 0, 1)
    assert [len(batch.lengths) for batch in whole] == [4, 4]
    for rank in range(2):
        (part,) = task.data.micro_batches(0, rank, 2)
        assert torch.equal(part.samples, whole[rank].samples)
    with pytest.raises(DataMismatch, match="1 groups of 4 recordings do not feed 2 processes"):
        make(tmp_path, processes=Processes(rank=0, world=2))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe": {"encoder": ""}}, r"--encoder FOLDER\[:LAYER\]"),
        ({"recipe": {"encoder": "nothing"}}, "nothing is no model"),
        ({"recipe": {"group": 3}}, "a batch of 4 recordings is no number of groups of 3"),
        ({"recipe": {"group": 1}}, "must be at least 2, or 0"),
        ({"recipe": {"per_speaker": 0}}, r"recipe\.per_speaker must be at least 1"),
        ({"recipe": {"nonsense": 0}}, r"no setting recipe\.nonsense"),
        ({"batch_size": 1}, "a batch of 1 recordings"),
        ({"network": {"heads": 3}}, "does not split into 3 heads"),
        ({"network": {"layers": 3}}, "sets layers, which is none of heads"),
        ({"data": {"min_seconds": 0.5}}, r"5 recordings last 1 s.* and 6 are contrasted"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    make: Make, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    if "data" in changes:
        changes = {**changes, "batch_size": 6}
    with pytest.raises(DataMismatch, match=sentence):
        make(tmp_path, **changes)


def test_short_recordings_are_told(make: Make, tmp_path: Path) -> None:
    warnings: list[str] = []
    make(tmp_path, warnings, data={"min_seconds": 0.5})
    assert warnings == [
        "1 of 6 recordings are shorter than 1 s, twice data.min_seconds, and are not used"
    ]


def test_a_file_that_goes_bad_takes_its_pair_along(make: Make, tmp_path: Path) -> None:
    warnings: list[str] = []
    task = make(tmp_path, warnings, batch_size=6)
    task.data._reader.speech.paths[2] = str(tmp_path / "gone.wav")
    (batch,) = task.data.micro_batches(0, 0, 1)
    assert len(batch.lengths) == 10
    assert int(task.loss("model", batch, 0).weight) == 5
    assert warnings == [f"left out: {tmp_path / 'gone.wav'} does not exist"]


def test_another_run_s_head_can_be_started_from(make: Make, best_rq: Path, tmp_path: Path) -> None:
    run_to(make(tmp_path / "a"), tmp_path / "a", 1)
    task = make(tmp_path / "b", seed=3)
    encoder = {name: value.clone() for name, value in task.network.encoder.state_dict().items()}
    task.initialise(tmp_path / "a")
    saved = load_consistency(tmp_path / "a")[0].state_dict()
    assert all(torch.equal(saved[name], value) for name, value in task.network.state_dict().items())
    assert all(
        torch.equal(encoder[name], value)
        for name, value in task.network.encoder.state_dict().items()
    )
    with pytest.raises(
        DataMismatch, match=r"has another network than .*: head.dim is 8 there and 4 here$"
    ):
        make(tmp_path / "c", network={"dim": 4}).initialise(tmp_path / "a")
    with pytest.raises(DataMismatch, match="holds a best-rq model"):
        task.initialise(best_rq)


def test_a_run_does_not_go_on_with_another_encoder(
    make: Make, best_rq: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run_to(make(run), run, 1)
    torch.manual_seed(5)
    config = BestRQConfig(layers=1, heads=2, width=32, feed_forward=32, mels=20, codebook_size=8)
    save_best_rq(tmp_path / "new", config=config, weights=BestRQ(config).state_dict())
    aside = tmp_path / "aside"
    best_rq.rename(aside)
    (tmp_path / "new").rename(best_rq)
    try:
        with pytest.raises(DataMismatch, match=r"with recipe\.encoder_fingerprint"):
            run_to(make(run), run, 2)
    finally:
        best_rq.rename(tmp_path / "new")
        aside.rename(best_rq)
