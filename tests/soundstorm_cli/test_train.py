"""`soundstorm train` from the command line: runs, resumes, refusals, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.codec.registry import load_codec
from stages.errors import DataMismatch
from stages.nn.model_file import WEIGHTS_NAME
from stages.semantic.kmeans import load_kmeans, save_kmeans
from stages.shards.reader import open_rows
from stages.training.token_store import build_store
from tests.tiny_whisper import tiny_whisper

TINY = [
    "--set", "network.layers=1", "--set", "network.heads=2", "--set", "network.width=16",
    "--set", "network.feed_forward=16", "--set", "batch_size=4", "--set", "log_every=1",
    "--set", "data.max_seconds=0.5", "--set", "data.min_seconds=0.1", "--device", "cpu",
]  # fmt: skip

Command = Callable[..., Any]


def test_a_run_and_its_resume(command: Command, pipeline: SimpleNamespace, tmp_path: Path) -> None:
    arguments = ["train", pipeline.full, "-o", tmp_path / "run", *TINY, "--valid", pipeline.full]
    first = command(*arguments, "--max-steps", 2)
    assert first.code == 0
    assert first.out == ""
    assert "train: soundstorm (mini), 0.4 M parameters, on cpu\n" in first.err
    assert "step 2  validation loss" in first.err
    second = command(*arguments, "--max-steps", 3, "--json", "--quiet")
    assert (second.code, second.err) == (0, "")
    result = json.loads(second.out)
    assert (result["start_step"], result["step"]) == (2, 3)
    assert "valid/loss" in result["metrics"]
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    assert document["kind"] == "soundstorm"
    assert document["extra"]["steps"] == 3
    assert set(document["tokens"]) == {"semantic", "acoustic"}
    again = command(*arguments, "--max-steps", 3)
    assert again.code == 0
    assert "from step 3" in again.err


def test_other_settings_are_refused_by_name(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    arguments = ["train", pipeline.full, "-o", tmp_path, *TINY, "--max-steps", 1]
    assert command(*arguments).code == 0
    refused = command(*arguments, "--seed", 3)
    assert refused.code == 2
    assert refused.err == (
        f"soundstorm: {tmp_path} was started with seed = 0, not 3: use the same settings to "
        "resume it, or another -o\n"
    )
    refused = command(*arguments, "--no-resume")
    assert refused.code == 2
    assert "has a checkpoint: leave out --no-resume" in refused.err


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--model", "storm"], "there is no model storm; there are soundstorm, codec"),
        (["--preset", "huge"], "there is no preset huge of soundstorm; there are mini, base, 350m"),
        (["--set", "optimiser.lr=1"], "--set: there is no setting optimiser.lr; there are"),
        (["--set", "network.depth=1"], "the settings' network sets depth, which is none of levels"),
        (["--set", "network.layers=deep"], "sets layers to 'deep': it must be a whole number"),
        (["--config", "no.toml"], "no.toml cannot be read: No such file or directory"),
        (["--codec", "x"], "x is no codec: use mini, encodec_24khz, encodec_48khz, lyra:FOLDER"),
        (["--kmeans", "x"], "x is no model: it has no config.json"),
        (
            ["--model", "codec", "--kmeans", "x"],
            "codec has no recipe: only soundstorm, student, bottleneck, vocoder",
        ),
        (["--set", "network.unconditional=true"], "follows from recipe.drop_semantic: set that"),
        (["--set", "recipe.level_power=-1"], "recipe.level_power must be at least 0"),
        (["--set", "recipe.whole_finer=1.5"], "whole_first and whole_finer must be in [0, 1]"),
        (["--set", "recipe.former=nothing"], "nothing"),
        (["--set", "recipe.adversarial_from=3"], "recipe: there is no setting recipe.adversarial"),
        (["--init", "nothing"], "nothing is no model: it has no config.json"),
        (["--device", "tpu"], "there is no device tpu here"),
    ],
)
def test_wrong_usage_is_one_sentence(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, extra: list[str], sentence: str
) -> None:
    ended = command("train", pipeline.full, "-o", tmp_path / "run", *TINY, *extra)
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.startswith("soundstorm: ")
    assert ended.err.count("\n") == 1


def test_data_that_does_not_fit_is_refused(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, corpus: Path
) -> None:
    ended = command("train", pipeline.semantic, "-o", tmp_path / "a", *TINY)
    assert (ended.code, ended.err) == (
        2,
        f"soundstorm: {pipeline.semantic} has no acoustic tokens: run tokenize-acoustic on it "
        "first\n",
    )
    ended = command("train", corpus / "manifest.tsv", "-o", tmp_path / "b", *TINY)
    assert ended.code == 2
    assert "has no semantic tokens: run tokenize-semantic on it first" in ended.err
    ended = command("train", pipeline.full, "-o", pipeline.kmeans, *TINY)
    assert ended.code == 2
    assert "holds a model and no run to resume: use another -o" in ended.err


def test_embeddings_start_from_the_tokens_models(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    arguments = ["train", pipeline.full, *TINY, "--max-steps", 0]
    makers = ["--codec", pipeline.codec, "--kmeans", pipeline.kmeans]
    assert command(*arguments, "-o", tmp_path / "random").code == 0
    assert command(*arguments, "-o", tmp_path / "placed", *makers).code == 0
    assert command(*arguments, "-o", tmp_path / "placed", *makers).code == 0  # resumes
    random, placed = (load_file(tmp_path / run / WEIGHTS_NAME) for run in ("random", "placed"))
    moved = {name for name in random if not torch.equal(random[name], placed[name])}
    assert moved == {"acoustic_table", "semantic_table", "head_weight"}
    other = tmp_path / "other"
    kmeans = load_kmeans(pipeline.kmeans)
    save_kmeans(replace(kmeans, centroids=kmeans.centroids + 1), other)
    refused = command(*arguments, "-o", tmp_path / "refused", "--kmeans", other)
    assert refused.code == 2
    assert f"the semantic tokens of the training set and {other} do not fit" in refused.err


def test_learning_from_what_a_whisper_hears(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    whisper = tiny_whisper(tmp_path / "whisper")
    arguments = ["train", pipeline.full, *TINY, "--valid", pipeline.full, "-o", tmp_path / "run"]
    arguments += ["--set", "recipe.heard_utterances=2", "--set", "valid_examples=2", "--json"]
    codec = ["--codec", pipeline.codec]
    first = command(*arguments, *codec, "--encoder", f"whisper:{whisper}", "--max-steps", 6)
    assert first.code == 0, first.err
    metrics = json.loads(first.out)["metrics"]
    assert min(metrics["valid/difference"], metrics["valid/divergence"]) > 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    for name in ("difference", "divergence"):  # 0 where the first level was the true one
        assert max(line.get(f"train/{name}", 0) for line in lines) > 0
    again = command(*arguments, *codec, "--encoder", f"whisper:{whisper}", "--max-steps", 7)
    assert "from step 6" in again.err
    for wrong, sentence in (
        ([*codec, "--encoder", "rq:2"], "learns from what a Whisper hears: --encoder whisper:FOL"),
        (["--encoder", f"whisper:{whisper}"], "only through the codec of its tokens: name it"),
        ([*codec, "--encoder", "whisper:/nowhere"], "/nowhere has no model.bin"),
        (
            [*codec, "--encoder", f"whisper:{whisper}", "--set", "recipe.difference_weight=-1"],
            "recipe.difference_weight and divergence_weight must be at least 0",
        ),
    ):
        refused = command(*arguments, *wrong)
        assert refused.code == 2
        assert sentence in refused.err
        assert refused.err.count("\n") == 1
    tiny_whisper(whisper, seed=1)  # another in its place
    refused = command(*arguments, *codec, "--encoder", f"whisper:{whisper}", "--max-steps", 8)
    assert refused.code == 2
    assert "was started with recipe.encoder_fingerprint" in refused.err


def test_starting_from_another_run(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    first = command("train", pipeline.full, "-o", tmp_path / "a", *TINY, "--max-steps", 1)
    assert first.code == 0
    initialised = ["--init", tmp_path / "a", "--max-steps", 0]
    second = command("train", pipeline.full, "-o", tmp_path / "b", *TINY, *initialised, "--seed", 9)
    assert second.code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert len(weights[0]) == len(weights[1])
    # The average of the first run after one step lags behind its weights; what was started from
    # is the exported average, bit for bit.
    assert weights[0] == weights[1]


def test_starting_from_what_ships(command: Command, corpus: Path, tmp_path: Path) -> None:
    """Codes stay, and only the decoder goes on: tokens made before are still understood."""
    start = ["--model", "codec", "--init", "mini", "--set", "batch_size=2", "--max-steps", 1]
    ended = command("train", corpus, "-o", tmp_path, *start)
    assert ended.code == 0, ended.err
    mine, shipped = load_codec(str(tmp_path)), load_codec("mini")
    assert mine.fingerprint == shipped.fingerprint
    assert mine.decoder_fingerprint != shipped.decoder_fingerprint


def test_starting_from_a_model_of_other_semantic_tokens(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, corpus: Path
) -> None:
    """The network goes on; condition embeddings are those of the tokens at the same frames."""
    first = command("train", pipeline.full, "-o", tmp_path / "a", *TINY, "--max-steps", 1)
    assert first.code == 0
    kmeans = load_kmeans(pipeline.kmeans)
    # The same clusters under other names, and one that no frame is near.
    centroids = np.concatenate((kmeans.centroids[::-1], kmeans.centroids[:1] + 1e3))
    save_kmeans(replace(kmeans, centroids=centroids), tmp_path / "kmeans")
    new = tmp_path / "new"
    retokenized = command("tokenize-semantic", pipeline.full, "-o", new, "-k", tmp_path / "kmeans")
    assert retokenized.code == 0, retokenized.err
    arguments = ["train", new, *TINY, "--max-steps", 0, "--init", tmp_path / "a"]
    refused = command(*arguments, "-o", tmp_path / "b")
    assert refused.code == 2
    assert "another network than these settings make" in refused.err
    former = ["--set", f"recipe.former={pipeline.full}"]
    assert command(*arguments, "-o", tmp_path / "b", *former).code == 0
    old, now = (load_file(tmp_path / run / WEIGHTS_NAME) for run in ("a", "b"))
    count = len(kmeans.centroids)
    used = {token for row in open_rows(pipeline.full).rows() for token in row["semantic"]}
    for token in used:
        torch.testing.assert_close(
            now["semantic_table"][count - 1 - token], old["semantic_table"][token]
        )
    assert now["semantic_table"].shape[0] == count + 1
    assert all(torch.equal(now[name], old[name]) for name in old if name != "semantic_table")
    wrong = ["--set", f"recipe.former={new}"]
    refused = command(*arguments, "-o", tmp_path / "c", *wrong)
    assert refused.code == 2
    assert "the semantic tokens of" in refused.err


@pytest.mark.parametrize("model", ["soundstorm", "audiolm-semantic", "audiolm-coarse"])
def test_units_that_are_what_their_centroids_say(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, model: str
) -> None:
    """From the start, or carried on from a model that has a table; and gone on with."""
    tiny = ["train", pipeline.full, *TINY, "--model", model, "--set", "data.max_seconds=2"]
    of_centroids = ["--kmeans", pipeline.kmeans, "--set", "recipe.centroids=true"]
    assert command(*tiny, "-o", tmp_path / "table", "--max-steps", 1).code == 0
    refused = command(*tiny, *of_centroids, "-o", tmp_path / "x", "--init", tmp_path / "table")
    assert refused.code == 2
    assert "centroid_dim is 0 there and" in refused.err
    former = ["--set", f"recipe.former={pipeline.full}", "--init", tmp_path / "table"]
    for name, start in (("new", []), ("carried", former)):
        run = tmp_path / name
        first = command(*tiny, *of_centroids, *start, "-o", run, "--max-steps", 1)
        assert first.code == 0, first.err
        again = command(*tiny, *of_centroids, *start, "-o", run, "--max-steps", 2)
        assert "from step 1" in again.err
        weights = load_file(run / WEIGHTS_NAME)
        (kept,) = (value for name, value in weights.items() if name.endswith("centroids"))
        np.testing.assert_array_equal(kept.numpy(), load_kmeans(pipeline.kmeans).centroids)
    gone_on = [*of_centroids, "-o", tmp_path / "on", "--init", tmp_path / "new", "--max-steps", 1]
    assert command(*tiny, *gone_on).code == 0
    for wrong, sentence in (
        (["--model", "audiolm-fine", *former], "no semantic tokens: leave out recipe.former"),
        (["--set", "recipe.centroids=true"], "name it with --kmeans"),
        (["--set", "network.centroid_dim=3"], "follows from recipe.centroids: set that"),
    ):
        refused = command(*tiny, *wrong, "-o", tmp_path / "refused", "--max-steps", 1)
        assert refused.code == 2
        assert sentence in refused.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_save_and_end(
    pipeline: SimpleNamespace, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "soundstorm_cli", "train", str(pipeline.full), "-o",
         str(tmp_path), *TINY, "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 3 "):
                break
        os.killpg(process.pid, number)  # as a terminal's Ctrl-C, or a scheduler, does it
        rest = process.stderr.read()
    assert process.returncode == code, rest
    assert "Traceback" not in rest
    assert (tmp_path / "config.json").exists()
    (saved,) = (tmp_path / "checkpoint").iterdir()
    assert json.loads((saved / "state.json").read_text())["step"] >= 3


@pytest.mark.parametrize(
    ("model", "prepares"),
    [
        ("soundstorm", "stages.training.token_store.build_store"),
        ("codec", "stages.training.tasks.codec.CodecTask.first_batches"),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_preparation_at_once(
    command: Command,
    pipeline: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    prepares: str,
    number: signal.Signals,
    code: int,
) -> None:
    def prepare(*arguments: Any, **more: Any) -> None:
        signal.raise_signal(number)
        pytest.fail("the signal was not heeded")

    monkeypatch.setattr(prepares, prepare)
    # A shell starts jobs in the background with Ctrl-C ignored, these tests perhaps, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = command("train", pipeline.full, "-o", tmp_path / "run", "--model", model,
                        "--device", "cpu", "--max-steps", 1)  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == code
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_minutes_count_from_the_start_and_without_a_step_there_is_no_model(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.1)
        return build_store(*arguments, **more)

    arguments = ["train", pipeline.full, "-o", tmp_path, *TINY, "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr("stages.training.token_store.build_store", build)
        ended = command(*arguments, "--max-minutes", 0.1 / 60)
    assert (ended.code, ended.err) == (
        0,
        "train: the run was over before its first step, so nothing was learnt yet and no model was "
        f"written to {tmp_path}: the same command goes on\n",
    )
    assert not (tmp_path / "config.json").exists()
    assert command(*arguments, "--max-steps", 1).code == 0
    assert (tmp_path / "config.json").exists()


def test_pitch_is_tracked_in_as_many_processes_as_were_asked_for(
    command: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def build(*arguments: Any, workers: int, **more: Any) -> None:
        asked.append(workers)
        raise DataMismatch("that is all")

    monkeypatch.setattr("stages.training.pitch_store.build_pitch_store", build)
    ended = command("train", corpus, "-o", tmp_path, "--model", "source-filter", "--codec", "mini",
                    "--workers", 3)  # fmt: skip
    assert ended.err == "soundstorm: that is all\n"
    assert asked == [3]


def test_a_half_written_checkpoint_is_no_run(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint" / "step-00000009.tmp").mkdir(parents=True)
    arguments = ["train", pipeline.full, "-o", tmp_path, *TINY, "--max-steps", 1, "--no-resume"]
    assert command(*arguments).code == 0
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000001"]


@pytest.mark.cluster
def test_two_processes_train_as_one(pipeline: SimpleNamespace, tmp_path: Path) -> None:
    """The example's script, on two CPU processes: the same losses as one process has."""
    script = Path(__file__).parents[2] / "examples" / "torchrun" / "train.sh"
    settings = [*TINY, "--set", "network.dropout=0.0", "--max-steps", "4"]
    for name, launch, extra in (
        ("one", [sys.executable, "-m", "soundstorm_cli", "train"], {}),
        ("two", ["bash", str(script)], {"PROCESSES": "2"}),
    ):
        subprocess.run(
            [*launch, str(pipeline.full), "-o", str(tmp_path / name), *settings],
            check=True,
            env={**environment(), **extra},
            timeout=300,
        )
    runs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(runs[0]) == 4
    for one, two in zip(*runs, strict=True):
        for values in (one, two):
            del values["train/steps_per_second"]
        assert two == pytest.approx(one, rel=1e-4)


def environment() -> dict[str, str]:
    """So that a child process finds this checkout and this interpreter's scripts."""
    root = str(Path(__file__).parents[2])
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PYTHONPATH": root,
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
        "OMP_NUM_THREADS": "1",
    }


def test_freed_memory_is_kept(
    command: Command, pipeline: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("stages.allocator.keep_freed_memory", lambda: calls.append(True))
    assert command("train", pipeline.full, "-o", tmp_path, *TINY, "--max-steps", 1).code == 0
    assert calls == [True]
