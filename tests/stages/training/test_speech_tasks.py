"""Networks on audio: they train, resume exactly, and leave usable models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from stages.assets import model_folder
from stages.audio.pitch import track_pitch
from stages.audio.sources import find_utterances
from stages.codec.mel.model import load_mel_codec, load_source_filter, load_vocoder
from stages.errors import DataMismatch, StageFailure
from stages.semantic.best_rq import load_best_rq
from stages.semantic.bottleneck import BottleneckConfig, load_bottleneck, save_bottleneck
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.kmeans import EncoderChoice, KMeans, load_kmeans, save_kmeans
from stages.semantic.spoken_bottleneck import SpokenBottleneck
from stages.semantic.student import load_student
from stages.semantic.unit_search.refiner import FARTHEST, load_refiner
from stages.semantic.unit_search.refining import Refinement
from stages.semantic.unit_search.unit_to_mel import load_unit_to_mel
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import AUDIO, ID, SEMANTIC
from stages.shards.source import RowSource, UtteranceList
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.training.distributed import Processes
from stages.training.loop import Trainer
from stages.training.presets import preset
from stages.training.settings import overlay
from stages.training.speech import SpeechBatch, SpeechReader, find_speech
from stages.training.stopping import Limits, Stopper
from stages.training.task import StepOutput
from stages.training.tasks import heard_task
from stages.training.tasks.registry import TaskInputs, build_task
from stages.training.windows import Window
from tests.tiny_units import tiny_speaker
from tests.tiny_whisper import tiny_whisper

LOUDNESSES = 4
MEL = {"hop": 160, "window": 256, "mels": 20}
CHANGES: dict[str, dict[str, Any]] = {
    "codec": {
        "network": {
            **MEL, "width": 8, "hidden": 16, "blocks": 1, "levels": 3,
            "codebook_size": 16,
        },
    },
    "vocoder": {
        "network": {**MEL, "width": 8, "hidden": 16, "blocks": 1, "fft": 640},
        "recipe": {"adversarial_from": 2, "quantised_from": 3, "filters": 2},
    },
    "source-filter": {
        "network": {**MEL, "width": 16, "hidden": 16, "blocks": 1, "kernel": 3},
    },
    "best-rq": {
        "network": {
            "layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "mels": 20,
            "codebook_size": 32, "mask_probability": 0.2,
        },
    },
    "student": {
        "network": {"layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "mels": 20},
    },
    "bottleneck": {
        "network": {
            "layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "mels": 20, "dim": 3,
            "speaker_layers": 1,
        },
    },
    "unit-to-mel": {"network": {"layers": 1, "heads": 2, "width": 16, "feed_forward": 16}},
    "refiner": {"network": {"layers": 1, "heads": 2, "width": 16, "feed_forward": 16}},
}  # fmt: skip
SMALL: dict[str, Any] = {
    "batch_size": 4,
    "micro_batch_seconds": 1.0,
    "log_every": 1,
    "optimiser": {"learning_rate": 1e-3, "warmup_steps": 1, "decay_steps": 50},
    "data": {"min_seconds": 0.3, "max_seconds": 0.5},
}

Make = Callable[..., Any]


@pytest.fixture
def make(corpus: Path) -> Make:
    """`make(model, run, warnings=[], **changes)`: a tiny task on made-up speech."""

    def build(model: str, run: Path, warnings: list[str] | None = None, **changes: Any) -> Any:
        settings = overlay(preset(model, "mini"), SMALL, where="test")
        settings = overlay(settings, CHANGES[model], where="test")
        source: RowSource = UtteranceList(
            find_utterances([str(corpus / "manifest.tsv")]), where="corpus"
        )
        if model == "student":
            source = _labelled(source, run.parent / "labelled")
        if model in ("bottleneck", "unit-to-mel", "refiner"):
            teacher = tiny_whisper(run.parent / "whisper")
            settings = overlay(
                settings, {"recipe": {"encoder": f"whisper:{teacher}"}}, where="test"
            )
        if model in ("unit-to-mel", "refiner"):
            units = {"kmeans": str(_points_kmeans(run.parent / "points"))}
            if model == "refiner":
                kmeans = load_kmeans(Path(units["kmeans"]))
                units["unit_to_mel"] = str(tiny_speaker(run.parent / "speaker", kmeans))
            settings = overlay(settings, {"recipe": units}, where="test")
        inputs = TaskInputs(
            train=source,
            valid=source,
            run=run,
            device=torch.device("cpu"),
            processes=Processes(),
            warn=(warnings if warnings is not None else []).append,
        )
        return build_task(overlay(settings, changes, where="test"), inputs)

    return build


def _points_kmeans(folder: Path) -> Path:
    """A k-means of sixteen random centroids over a random bottleneck, which is beside it."""
    torch.manual_seed(0)
    config = BottleneckConfig(layers=1, heads=2, width=16, feed_forward=16, mels=20, dim=3)
    save_bottleneck(
        folder / "encoder", config=config, weights=SpokenBottleneck(config).state_dict()
    )
    encoder = load_encoder(str(folder / "encoder"))
    draw = np.random.default_rng(0)
    kmeans = KMeans(
        centroids=draw.uniform(-1, 1, (16, 3)).astype(np.float32),
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        frame_rate=encoder.frame_rate,
        choice=EncoderChoice(spec=str(folder / "encoder")),
    )
    save_kmeans(kmeans, folder / "kmeans")
    return folder / "kmeans"


def _labelled(source: RowSource, folder: Path, *, rate: int = 25) -> RowSource:
    """The same rows with a token for each frame, which says how loud it is."""
    spec = TokenSpec(
        kind="semantic", name="loudness", fingerprint="a" * 64, frame_rate=Fraction(rate),
        codebook_size=LOUDNESSES,
    )  # fmt: skip
    rows = []
    for row in source.rows():
        samples, sample_rate = soundfile.read(row["audio"])
        hop = sample_rate // rate
        frames = [np.abs(samples[at : at + hop]).max() for at in range(0, len(samples), hop)]
        loud = np.minimum(np.array(frames) * LOUDNESSES, LOUDNESSES - 1)
        rows.append({"id": row["id"], "audio": row["audio"], "semantic": loud.astype(np.uint16)})
    record = StageRecord(stage="tokenize-semantic", version="0", settings={}, tokens=spec)
    path = folder / "part-00000-of-00001.parquet"
    write_shard(path, [rows], pa.schema([ID, AUDIO, SEMANTIC]), Provenance((record,)))
    return open_rows(folder)


def run_to(task: Any, run: Path, steps: int, workers: int = 0) -> Trainer[Any]:
    trainer = Trainer(task, run, workers=workers)
    trainer.resume()
    with Stopper(Limits(max_steps=steps)) as stopper:
        trainer.run(stopper)
    return trainer


def losses(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if "per_second" not in name}
        for line in lines
        if "train/loss" in line
    ]


@pytest.mark.parametrize(
    "model",
    [
        "codec", "vocoder", "source-filter", "best-rq", "student", "bottleneck", "unit-to-mel",
        "refiner",
    ],
)  # fmt: skip
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(
    make: Make, tmp_path: Path, model: str
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_to(make(model, whole), whole, 4)
    run_to(make(model, broken), broken, 3)
    run_to(make(model, broken), broken, 4, workers=1)
    assert losses(broken) == losses(whole)
    assert [line["step"] for line in losses(whole)] == [1, 2, 3, 4]
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_codec_learns_and_can_be_loaded(make: Make, tmp_path: Path) -> None:
    coarse = {"network": {"codebook_size": 2}, "optimiser": {"learning_rate": 1e-2}}
    short = tmp_path / "short"
    first = run_to(make("codec", short, **coarse), short, 1).latest["valid/loss"]
    trainer = run_to(make("codec", tmp_path, **coarse), tmp_path, 60)
    assert trainer.latest["valid/loss"] < 0.95 * first
    few, all_of_them = (trainer.latest[f"valid/mel_distance/levels_{n:02d}"] for n in (1, 3))
    assert 0 < all_of_them < few
    network, fingerprint = load_mel_codec(tmp_path)
    assert network.config.levels == 3
    assert len(fingerprint) == 64


def test_the_vocoder_goes_through_its_phases(make: Make, tmp_path: Path) -> None:
    run_to(make("codec", tmp_path / "codec"), tmp_path / "codec", 3)
    recipe = {"codec": str(tmp_path / "codec")}
    task = make("vocoder", tmp_path / "vocoder", recipe=recipe)
    assert task.turns(1) == ("model",)
    assert task.turns(2) == ("discriminators", "model")
    trainer = run_to(task, tmp_path / "vocoder", 4)
    lines = losses(tmp_path / "vocoder")
    assert ["train/adversarial" in line for line in lines] == [False, False, True, True]
    assert all(line["train/loss"] == line["train/mel"] for line in lines)
    assert {"train/discriminators/loss", "train/discriminators/gradient_norm"} <= set(lines[3])
    assert {"valid/mel", "valid/mel/quantised"} <= set(trainer.latest)
    load_vocoder(tmp_path / "vocoder")
    assert task.settings.recipe["codec_fingerprint"] == load_mel_codec(tmp_path / "codec")[1]


def test_the_source_filter_learns_pitch_that_is_tracked_once(make: Make, tmp_path: Path) -> None:
    run_to(make("codec", tmp_path / "codec"), tmp_path / "codec", 3)
    recipe = {"codec": str(tmp_path / "codec")}
    quick = {"optimiser": {"learning_rate": 1e-2, "decay_steps": 1_000}}
    run, told = tmp_path / "run", []
    task = make("source-filter", run, told, recipe=recipe, **quick)
    assert len(told) == 1  # it trains and validates on the same set
    assert told[0].startswith("tracking the pitch of 6 recordings")
    first = run_to(task, run, 1).latest["valid/loss"]
    task = make("source-filter", run, told, recipe=recipe, **quick)
    trainer = run_to(task, run, 60)
    assert len(told) == 1
    assert trainer.latest["valid/loss"] < 0.75 * first
    assert {"valid/gross_errors", "valid/deviation", "valid/voicing_errors"} <= set(trainer.latest)
    model, _ = load_source_filter(run)
    assert model.config.geometry == load_mel_codec(tmp_path / "codec")[0].config.geometry
    assert task.settings.recipe["codec_fingerprint"] == load_mel_codec(tmp_path / "codec")[1]


def test_pitch_lies_beside_the_samples_of_its_window(make: Make, tmp_path: Path) -> None:
    task = make("source-filter", tmp_path)
    (batch,) = task.data.micro_batches(0, 0, 1)[:1]
    speech = task.data._reader.speech
    assert batch.pitch.shape == (len(batch.samples), -(-batch.samples.shape[1] // 80))
    reader, store = SpeechReader(speech, 16_000), speech.pitch
    window = Window(example=2, start=1_234, length=4_000, seed=0)
    one = reader.batch([window], seed=0)
    whole = reader._samples(2)
    start = 1_234 - 1_234 % 80
    np.testing.assert_array_equal(one.samples[0], whole[start : start + 4_000])
    tracked = track_pitch(whole, 16_000, seconds=80 / 16_000, lowest=60, highest=500)
    np.testing.assert_array_equal(one.pitch[0], tracked[start // 80 : start // 80 + 50])
    assert (store.slice(2, 0, len(whole)) > 0).any()


def test_pitch_of_other_recordings_is_tracked_anew(make: Make, tmp_path: Path) -> None:
    told: list[str] = []
    make("source-filter", tmp_path, told)
    make("source-filter", tmp_path, told)
    make("source-filter", tmp_path, told, network={"lowest": 80.0})
    assert len(told) == 2


@pytest.mark.parametrize("step", [2, 3])  # the discriminators' first, and one more
@pytest.mark.parametrize("player", ["discriminators", "model"])
def test_a_loss_that_is_no_number_leaves_all_players_as_they_were(
    make: Make, tmp_path: Path, step: int, player: str
) -> None:
    """Whose update it is, what is saved is what a run up to that step saves, and goes on as it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_to(make("vocoder", whole, log_every=10), whole, step)
    task = make("vocoder", broken, log_every=10)
    honest = task.loss

    def poisoned(who: str, batch: SpeechBatch, now: int) -> StepOutput:
        output = honest(who, batch, now)
        if (who, now) != (player, step):
            return output
        return replace(output, loss=output.loss * float("nan"))

    task.loss = poisoned
    with pytest.raises(StageFailure, match=rf"^the loss of {player} at step {step} is nan.*: the"):
        run_to(task, broken, 5)
    expected, saved = (
        load_file(run / "checkpoint" / f"step-{step:08d}" / "tensors.safetensors")
        for run in (whole, broken)
    )
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], value) for name, value in expected.items())
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for run in (whole, broken):
        run_to(make("vocoder", run, log_every=10), run, 5)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_codec_saved_at_half_its_size_has_the_same_tokens(make: Make, tmp_path: Path) -> None:
    networks = []
    for precision in ("float32", "float16"):
        run_to(
            make("codec", tmp_path / precision, saved_precision=precision), tmp_path / precision, 2
        )
        networks.append(load_mel_codec(tmp_path / precision)[0])
    whole, half = networks
    assert whole.token_fingerprint() == half.token_fingerprint()
    assert not torch.equal(whole.decoder.last.weight, half.decoder.last.weight)


def test_only_the_codec_s_frames_are_heard_at_last(make: Make, tmp_path: Path) -> None:
    run_to(make("codec", tmp_path), tmp_path, 1)
    task = make("vocoder", tmp_path, recipe={"codec": str(tmp_path), "quantised_from": 1})
    heard: list[bool] = []
    honest = task._frames
    task._frames = lambda samples, lengths, quantised: (
        heard.append(quantised) or honest(samples, lengths, quantised)
    )
    (batch, *_) = task.data.micro_batches(0, 0, 1)
    task.loss("model", batch, 0)
    task.loss("model", batch, 1)
    assert heard == [False, True]


def test_the_discriminators_verdict_moves_only_the_vocoder(make: Make, tmp_path: Path) -> None:
    task = make("vocoder", tmp_path)
    (batch, *_) = task.data.micro_batches(0, 0, 1)
    task.loss("model", batch, 2).loss.backward()
    assert all(p.grad is None for p in task.discriminators.parameters())
    assert all(p.requires_grad for p in task.discriminators.parameters())
    assert any(p.grad is not None and p.grad.any() for p in task.network.parameters())


def test_a_codec_of_other_frames_is_refused(make: Make, tmp_path: Path) -> None:
    run_to(make("codec", tmp_path, network={"mels": 24}), tmp_path, 0)
    with pytest.raises(DataMismatch, match="other mel frames"):
        make("vocoder", tmp_path, recipe={"codec": str(tmp_path)})


def test_best_rq_validates_and_can_be_loaded(make: Make, tmp_path: Path) -> None:
    task = make("best-rq", tmp_path)
    model = task.network.eval()
    assert task.validate(model) == task.validate(model)
    run_to(task, tmp_path, 2)
    network, _ = load_best_rq(tmp_path)
    assert torch.equal(network.codebook, task.network.codebook)


@pytest.mark.parametrize("model", ["best-rq", "bottleneck"])
def test_validation_does_not_hang_on_what_goes_through_at_once(
    make: Make, tmp_path: Path, model: str
) -> None:
    """Each row's masks and noise are its own."""
    network = None
    scores = []
    for seconds in (0.01, 1000.0):
        task = make(model, tmp_path / "run", micro_batch_seconds=seconds)
        network = network or task.network.eval()
        scores.append(task.validate(network))
    assert scores[0] == scores[1]


def test_a_student_learns_its_teacher_s_tokens(make: Make, tmp_path: Path) -> None:
    first = run_to(make("student", tmp_path / "a"), tmp_path / "a", 1).latest["valid/accuracy"]
    settings = {"learning_rate": 1e-2}
    trainer = run_to(make("student", tmp_path / "b", optimiser=settings), tmp_path / "b", 60)
    assert trainer.latest["valid/accuracy"] > max(0.5, first + 0.1)
    network, _ = load_student(tmp_path / "b")
    assert network.config.tokens == LOUDNESSES


def test_a_student_s_head_starts_from_its_own_teacher_s_clusters(
    make: Make, tmp_path: Path
) -> None:
    kmeans = KMeans(
        centroids=np.random.default_rng(0).normal(size=(LOUDNESSES, 6)).astype(np.float32),
        encoder="other",
        encoder_fingerprint="b" * 64,
        frame_rate=Fraction(25),
        choice=EncoderChoice(spec="other"),
    )
    save_kmeans(kmeans, tmp_path / "kmeans")
    with pytest.raises(DataMismatch, match="do not fit"):
        make("student", tmp_path, recipe={"kmeans": str(tmp_path / "kmeans")})
    with pytest.raises(DataMismatch, match="of the training set and mini do not fit"):
        make("student", tmp_path, recipe={"kmeans": "mini"})
    with pytest.raises(DataMismatch, match=r"no setting recipe\.nonsense"):
        make("student", tmp_path, recipe={"nonsense": 1})


def test_a_student_s_tokens_must_fit(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match=r"25 semantic tokens a second and the network 50"):
        make("student", tmp_path, network={"stack": 2})
    with pytest.raises(DataMismatch, match=r"has 4 semantic tokens and the network 5"):
        make("student", tmp_path, network={"tokens": 5})
    with pytest.raises(DataMismatch, match="semantic"):
        find_speech(UtteranceList([], where="rows"), print, labelled=True)


def test_starting_from_another_run(make: Make, tmp_path: Path) -> None:
    for model in ("codec", "vocoder", "source-filter", "best-rq", "student"):
        run_to(make(model, tmp_path / model), tmp_path / model, 1)
        task = make(model, tmp_path / "other", seed=3)
        task.initialise(tmp_path / model)
        saved = Trainer(task, tmp_path / "other")._average.state_dict()
        state = task.network.state_dict()
        assert all(torch.equal(saved[name], value) for name, value in state.items())
        if model != "codec":
            with pytest.raises(DataMismatch, match="holds a codec model where a"):
                task.initialise(tmp_path / "codec")


def test_a_recipe_is_the_vocoder_s_alone(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="codec has no recipe"):
        make("codec", tmp_path, recipe={"mel": 1.0})
    with pytest.raises(DataMismatch, match=r"no setting recipe\.nonsense"):
        make("vocoder", tmp_path, recipe={"nonsense": 1})


def test_a_file_that_cannot_be_read_is_left_out(
    make: Make, tmp_path: Path, speech_wav: Path
) -> None:
    broken, cut = tmp_path / "broken.wav", tmp_path / "cut.wav"
    broken.write_bytes(b"RIFF")
    cut.write_bytes(speech_wav.read_bytes()[:8000])  # a header that promises more
    rows = [{"id": path.stem, "audio": str(path), "speaker": None} for path in (broken, cut)]
    warnings: list[str] = []
    speech = find_speech(UtteranceList(rows, where="rows"), warnings.append)
    assert [Path(path).stem for path in speech.paths] == ["cut"]
    assert warnings == [
        f"1 files of rows are not used; the first: {broken} cannot be decoded as audio"
    ]
    with pytest.raises(DataMismatch, match="no audio that can be read"):
        find_speech(UtteranceList(rows[:1], where="rows"), warnings.append)


def test_rows_without_sound_are_left_out(tmp_path: Path, speech_wav: Path) -> None:
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0, np.float32), 16_000)
    known = {"num_samples": 16_000, "sample_rate": 16_000}
    rows: list[dict[str, Any]] = [
        {"id": "a", "audio": None, **known},
        {"id": "b", "audio": str(empty)},
        {"id": "c", "audio": str(speech_wav), "num_samples": 399, "sample_rate": 16_000},
        {"id": "d", "audio": str(speech_wav), **known},
    ]
    warnings: list[str] = []
    speech = find_speech(UtteranceList(rows, where="rows"), warnings.append)
    assert (speech.paths, speech.seconds.tolist()) == ([str(speech_wav)], [1.0])
    assert warnings == ["3 files of rows are not used; the first: a has no audio"]
    with pytest.raises(
        DataMismatch,
        match=r"^rows has no audio that can be read; the first: .*empty\.wav lasts 0\.0000 s: at "
        r"least 0\.025 s is needed$",
    ):
        find_speech(UtteranceList(rows[1:3], where="rows"), warnings.append)


def test_a_file_that_goes_bad_later_is_told_once(make: Make, tmp_path: Path) -> None:
    warnings: list[str] = []
    task = make("best-rq", tmp_path, warnings)
    task.data._reader.speech.paths[2] = str(tmp_path / "gone.wav")
    run_to(task, tmp_path / "run", 4)
    assert warnings == [f"left out: {tmp_path / 'gone.wav'} does not exist"]


def test_what_was_not_read_is_told_even_if_a_micro_batch_is_empty(
    make: Make, tmp_path: Path
) -> None:
    """Micro-batches of one window each: that of the lost file is empty, and leaves the step."""
    warnings: list[str] = []
    task = make(
        "best-rq",
        tmp_path,
        warnings,
        micro_batch_seconds=0.1,
        batch_size=6,
        data={"speaker_power": 1.0},
    )
    task.data._reader.speech.paths[2] = str(tmp_path / "gone.wav")
    assert len(task.data.micro_batches(0, 0, 1)) == 5
    run_to(task, tmp_path / "run", 1)
    assert warnings == [f"left out: {tmp_path / 'gone.wav'} does not exist"]


def test_a_run_whose_files_are_all_gone_gives_up(make: Make, tmp_path: Path) -> None:
    task = make("best-rq", tmp_path)
    task.data._reader.speech.paths[:] = [str(tmp_path / "gone.wav")] * 6
    with pytest.raises(StageFailure, match="could be read in 20 steps on end") as failure:
        run_to(task, tmp_path / "run", 30)
    assert str(failure.value).endswith(f"; the last: {tmp_path / 'gone.wav'} does not exist")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_short_run_whose_files_are_all_gone_is_no_training(
    make: Make, tmp_path: Path, workers: int
) -> None:
    task = make("best-rq", tmp_path)
    gone = tmp_path / "gone.wav"
    task.data._reader.speech.paths[:] = [str(gone)] * 6
    warnings: list[str] = []
    trainer = Trainer(task, tmp_path / "run", workers=workers, warn=warnings.append)
    with (
        pytest.raises(StageFailure, match=rf"learnt in 2 steps; the last: {gone} does not exist$"),
        Stopper(Limits(max_steps=2)) as stopper,
    ):
        trainer.run(stopper)
    assert warnings == [f"nothing could be read for step 0; the first: {gone} does not exist"]
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_goes_on_after_a_step_without_data(make: Make, tmp_path: Path) -> None:
    task = make("best-rq", tmp_path, batch_size=1)
    gone = tmp_path / "gone.wav"
    first = task.data._sampler.windows(0)[0].example
    task.data._reader.speech.paths[first] = str(gone)
    warnings: list[str] = []
    trainer = Trainer(task, tmp_path / "run", warn=warnings.append)
    with Stopper(Limits(max_steps=20)) as stopper:
        assert trainer.run(stopper).step == 20
    assert warnings == [f"nothing could be read for step 0; the first: {gone} does not exist"]


def test_validation_data_that_is_gone_is_told(make: Make, tmp_path: Path) -> None:
    warnings: list[str] = []
    task = make("best-rq", tmp_path, warnings)
    gone = tmp_path / "gone.wav"
    task._valid.paths[:] = [str(gone)] * 6
    assert [task.validate(task.network) for _ in range(2)] == [{}, {}]
    assert warnings == [
        f"nothing of the validation data could be read; the first: {gone} does not exist"
    ]


def test_windows_lie_in_their_files(make: Make, tmp_path: Path) -> None:
    task = make("best-rq", tmp_path)
    for step in range(3):
        for batch in task.data.micro_batches(step, 0, 1):
            assert batch.samples.shape == (len(batch.lengths), int(batch.lengths.max()))
            assert all(4799 <= length <= 8000 for length in batch.lengths.tolist())
            for row, length in zip(batch.samples, batch.lengths.tolist(), strict=True):
                assert not row[length:].any()
                assert np.abs(row[:length].numpy()).max() > 0


def test_a_bottleneck_learns_and_starts_from_another(make: Make, tmp_path: Path) -> None:
    run = tmp_path / "bottleneck"
    task = make("bottleneck", run, recipe={"vary_speed": False})
    before = task.validate(task.network.eval())
    task.network.train()
    run_to(task, run, 30)
    after = task.validate(task.network.eval())
    assert after["loss"] < before["loss"]
    assert after["loss"] == pytest.approx(after["mel"] + 2 * after["heard"], rel=1e-4)
    again = make("bottleneck", tmp_path / "again")
    again.initialise(run)
    saved, _ = load_bottleneck(run)
    torch.testing.assert_close(again.network.narrow.weight, saved.narrow.weight)


def test_a_bottleneck_s_longest_windows_are_heard_whole(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_speech: Callable[..., Any]
) -> None:
    for name in ("base", "350m"):
        longest = preset("bottleneck", name).data.max_seconds
        task = make("bottleneck", tmp_path / name, data={"max_seconds": longest})
    monkeypatch.setattr(heard_task, "SPEEDS", ((9, 10),))
    samples = torch.from_numpy(make_speech(longest))[None]
    batch = SpeechBatch(samples=samples, lengths=torch.tensor([samples.shape[1]]), seed=0)
    assert int(task.loss("model", batch, 0).weight) == 100 * 30


def test_windows_that_a_bottleneck_s_teacher_does_not_hear_are_refused(
    make: Make, tmp_path: Path
) -> None:
    with pytest.raises(
        DataMismatch,
        match=r"^data\.max_seconds must be at most 27, not 27\.5: .*recipe\.vary_speed",
    ):
        make("bottleneck", tmp_path, data={"max_seconds": 27.5})
    steady = {"vary_speed": False}
    make("bottleneck", tmp_path, data={"max_seconds": 30.0}, recipe=steady)
    with pytest.raises(DataMismatch, match=r"at most 30, not 30\.5: Whisper hears 30 s at once$"):
        make("bottleneck", tmp_path, data={"max_seconds": 30.5}, recipe=steady)


def test_a_bottleneck_needs_a_whisper(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="--encoder whisper:FOLDER"):
        make("bottleneck", tmp_path / "run", recipe={"encoder": "logmel"})


def test_a_unit_to_mel_learns_and_starts_from_another(make: Make, tmp_path: Path) -> None:
    run = tmp_path / "search"
    task = make("unit-to-mel", run, network={"dropout": 0.0})
    before = task.validate(task.network.eval())
    task.network.train()
    run_to(task, run, 40)
    after = task.validate(task.network.eval())
    assert after["loss"] < before["loss"]
    assert after["loss"] == pytest.approx(after["mel"] + 2 * after["heard"], rel=1e-4)
    again = make("unit-to-mel", tmp_path / "again")
    again.initialise(run)
    saved, config, file = load_unit_to_mel(run)
    torch.testing.assert_close(again.network.output.weight, saved.output.weight)
    assert (config.dim, config.mels) == (3, 20)  # the k-means' and the teacher's
    fingerprint = task.settings.recipe["kmeans_fingerprint"]
    assert file.tokens["semantic"]["fingerprint"] == fingerprint


def test_a_unit_to_mel_s_inputs_must_fit(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataMismatch, match="--kmeans FOLDER or mini"):
        make("unit-to-mel", tmp_path / "run", recipe={"kmeans": ""})
    with pytest.raises(DataMismatch, match="--encoder whisper:FOLDER"):
        make("unit-to-mel", tmp_path / "run", recipe={"encoder": "logmel"})
    with pytest.raises(DataMismatch, match=r"25 units a second .* 50: set network\.stack to 4"):
        make("unit-to-mel", tmp_path / "run", network={"stack": 2})
    with pytest.raises(DataMismatch, match=r"have \{'dim': 3, 'mels': 20\}: leave network\.dim"):
        make("unit-to-mel", tmp_path / "run", network={"dim": 4})
    with pytest.raises(DataMismatch, match=r"recipe\.strays from 0 to 1"):
        make("unit-to-mel", tmp_path / "run", recipe={"strays": 2.0})


def test_a_refiner_learns_and_refines(make: Make, tmp_path: Path) -> None:
    run = tmp_path / "refiner"
    task = make("refiner", run, network={"dropout": 0.0}, optimiser={"learning_rate": 1e-2})
    before = task.validate(task.network.eval())
    task.network.train()
    run_to(task, run, 40)
    after = task.validate(task.network.eval())
    assert after["loss"] < before["loss"]
    assert after["loss"] == pytest.approx(after["mel"] + 10 * after["heard"], rel=1e-4)
    again = make("refiner", tmp_path / "again")
    again.initialise(run)
    saved, config, _ = load_refiner(run)
    torch.testing.assert_close(again.network.output.weight, saved.output.weight)
    assert (config.dim, config.mels) == (3, 20)  # the k-means' and the teacher's
    kmeans = load_kmeans(tmp_path / "points" / "kmeans")
    refinement = Refinement(run, kmeans.encoder_fingerprint, speaker=tmp_path / "speaker")
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    frames = np.random.default_rng(1).uniform(-1, 1, (25, 3)).astype(np.float32)
    moved = refinement.frames(samples, frames)
    assert (moved.dtype, moved.shape) == (np.float32, frames.shape)
    assert 0 < np.abs(moved - frames).mean() < 1
    other = tiny_speaker(tmp_path / "other", kmeans, seed=1)
    with pytest.raises(DataMismatch, match="learned with another unit-to-mel model than"):
        Refinement(run, kmeans.encoder_fingerprint, speaker=other)


def test_a_refiner_s_frames_alone_are_trained(make: Make, tmp_path: Path) -> None:
    task = make("refiner", tmp_path / "run")
    batch = next(iter(task.valid_batches(10.0)))
    task.sums(task.network, batch, varied=True).loss.backward()
    assert task.network.output.weight.grad.abs().sum() > 0
    parts = (task._speaker, task._units.ear)
    assert all(weight.grad is None for part in parts for weight in part.parameters())


def test_a_refiner_s_inputs_must_fit(make: Make, tmp_path: Path) -> None:
    for changes, reason in (
        ({"recipe": {"kmeans": ""}}, "--kmeans FOLDER or mini"),
        ({"recipe": {"encoder": "logmel"}}, "--encoder whisper:FOLDER"),
        ({"recipe": {"unit_to_mel": "mini"}}, "speaks the units of another encoder"),
        ({"recipe": {"rounded": 1.5}}, r"recipe\.rounded from 0 to 1"),
        ({"network": {"stack": 2}}, r"25 units a second .* 50: set network\.stack to 4"),
        ({"network": {"stack": 3}}, r"an even network\.stack"),
    ):
        with pytest.raises(DataMismatch, match=reason):
            make("refiner", tmp_path / "run", **changes)
    kmeans = load_kmeans(tmp_path / "points" / "kmeans")
    save_kmeans(replace(kmeans, centroids=3 * kmeans.centroids), tmp_path / "wide")
    with pytest.raises(DataMismatch, match=r"between -1 and 1, .* as far out as 2\.\d+: use one"):
        make("refiner", tmp_path / "run", recipe={"kmeans": str(tmp_path / "wide")})


def test_a_refiner_learns_with_the_units_that_ship(make: Make, tmp_path: Path) -> None:
    """Which are of refined frames, and so further out than an encoder's."""
    teacher = f"whisper:{tiny_whisper(tmp_path / 'ear', mels=80)}"
    recipe = {"encoder": teacher, "kmeans": "mini", "unit_to_mel": "mini"}
    task = make("refiner", tmp_path / "run", recipe=recipe)
    assert task.config.dim == 8
    farthest = float(np.abs(load_kmeans(model_folder("mini", "kmeans")).centroids).max())
    assert 1 < farthest <= FARTHEST
