"""`soundstorm decode` from the command line: options, refusals, streams, voices."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from soundstorm_cli.main import run
from stages.audiolm.config import CoarseConfig
from stages.audiolm.model import to_model_file as save_stage
from stages.audiolm.network import StageNetwork
from stages.codec.base import AcousticTokens, AudioBatch, Codec
from stages.nn.precision import PRECISIONS
from stages.semantic.encoders.registry import load_encoder
from stages.semantic.kmeans import EncoderChoice, KMeans, save_kmeans
from stages.shards.pipes import open_stream
from stages.shards.provenance import Provenance, StageRecord
from stages.shards.reader import open_rows
from stages.shards.rows import ID, SEMANTIC, TEXT, Row, acoustic_field
from stages.shards.spec import TokenSpec
from stages.shards.writer import write_shard
from stages.soundstorm.config import SoundStormConfig
from stages.soundstorm.model import to_model_file
from stages.soundstorm.network import SoundStorm

Run = Callable[..., int]


class TinyCodec(Codec):
    """Two levels a frame of 20 ms: its loudness, coarse and fine."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.decoder_fingerprint = "tiny", "b" * 64, "b" * 64
        self.models = {"tiny": "b" * 64}
        self.sample_rate, self.channels, self.frame_rate = 16_000, 1, Fraction(50)
        self.levels, self.codebook_size = 2, 8

    def encode(self, audio: AudioBatch) -> AcousticTokens:
        padded = torch.nn.functional.pad(audio.samples[:, 0], (0, -audio.samples.shape[2] % 320))
        loudness = padded.unfold(1, 320, 320).abs().mean(dim=2).clamp(max=0.999)  # [B, T]
        fine = (loudness * 64).long()
        codes = torch.stack((fine // 8, fine % 8), dim=2)
        return AcousticTokens(codes=codes, lengths=-(-audio.lengths // 320))

    def decode(self, tokens: AcousticTokens) -> AudioBatch:
        raise NotImplementedError

    def codebooks(self) -> torch.Tensor:
        raise NotImplementedError


@pytest.fixture(scope="module")
def kmeans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TokenSpec]:
    """Five clusters of log-mel frames, not fitted to anything."""
    encoder = load_encoder("logmel")
    centroids = np.random.default_rng(0).normal(size=(5, encoder.dim)).astype(np.float32)
    clusters = KMeans(
        centroids=centroids,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        frame_rate=encoder.frame_rate,
        choice=EncoderChoice(spec="logmel"),
    )
    folder = tmp_path_factory.mktemp("kmeans") / "km"
    save_kmeans(clusters, folder)
    return folder, clusters.tokens


@pytest.fixture(scope="module")
def paths(
    kmeans: tuple[Path, TokenSpec], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A model and shards of four rows that fit it, one of them without acoustic tokens."""
    folder = tmp_path_factory.mktemp("decode")
    torch.manual_seed(0)
    config = SoundStormConfig(
        levels=2, codebook_size=8, semantic_codebook_size=5, layers=1, heads=2, width=16,
        feed_forward=32,
    )  # fmt: skip
    semantic, acoustic = kmeans[1], TinyCodec().spec
    to_model_file(
        folder / "run",
        config=config,
        weights=SoundStorm(config).state_dict(),
        semantic=semantic,
        acoustic=acoustic,
    )
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for number in range(4):
        frames = 30 + 10 * number
        count = int(frames * semantic.frame_rate / 50)
        rows.append(
            {
                "id": f"u{number}",
                "text": f"row {number}",
                "semantic": random.integers(0, 5, count),
                "acoustic": random.integers(0, 8, (frames, 2)) if number else None,
            }
        )
    origin = Provenance(
        tuple(
            StageRecord(stage=f"tokenize-{spec.kind}", version="0", settings={}, tokens=spec)
            for spec in (semantic, acoustic)
        )
    )
    schema = pa.schema([ID, TEXT, SEMANTIC, acoustic_field(2)])
    write_shard(folder / "in.parquet", [rows], schema, origin)
    return SimpleNamespace(model=str(folder / "run"), rows=str(folder / "in.parquet"))


@pytest.fixture
def soundstorm(paths: SimpleNamespace) -> Run:
    """`soundstorm(*arguments)` runs `decode` with the tiny model; gives the exit code."""

    def call(*arguments: str, model: bool = True) -> int:
        chosen = ["--model", paths.model, "--device", "cpu"] if model else []
        with pytest.raises(SystemExit) as exit_info:
            run(["decode", *chosen, *arguments])
        return int(exit_info.value.code or 0)

    return call


def read(path: Path) -> dict[str, Row]:
    with open_rows(str(path)) as source:
        return {row["id"]: row for row in source.rows()}


def test_unprompted(soundstorm: Run, paths: SimpleNamespace, tmp_path: Path) -> None:
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out")) == 0
    rows, given = read(tmp_path / "out"), read(Path(paths.rows))
    assert list(rows) == list(given)
    for name, row in rows.items():
        assert row["prompt_frames"] == 0
        assert row["text"] == given[name]["text"]
        assert row["acoustic"].shape == (30 + 10 * int(name[1]), 2)
    with open_rows(str(tmp_path / "out")) as source:
        record = source.provenance.stages[-1]
    assert record.stage == "decode"
    assert record.settings["iterations"] == [16, 1]
    assert record.tokens is not None
    assert record.tokens.fingerprint == "b" * 64


def test_same_command_same_bytes_and_other_seed_other_tokens(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.parquet" for name in "abc"]
    for file, more in zip(files, ([], ["--batch-seconds", "2"], ["--seed", "1"]), strict=True):
        assert soundstorm(paths.rows, "-o", str(file), *more) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def test_a_cpu_tells_that_it_has_no_batches(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "decode: --batch-seconds 2 is for a GPU"
    for more, told in (([], False), (["--batch-seconds", "2"], True)):
        assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), "--force", *more) == 0
        assert (said in capsys.readouterr().err) == told


def test_own_prompt_fails_the_row_without_tokens(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompt-seconds", "0.3", "--iterations", "4,1"]
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), *options) == 1
    assert "u0: the row has no acoustic tokens" in capsys.readouterr().err
    rows, given = read(tmp_path / "out"), read(Path(paths.rows))
    assert list(rows) == ["u1", "u2", "u3"]
    for name, row in rows.items():
        assert row["prompt_frames"] == 15
        assert np.array_equal(row["acoustic"][:15], given[name]["acoustic"][:15])
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), *options, "--keep-going") == 0


def test_stream_in_and_out(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Parquet file on standard input; rows come out as a stream, as `| vocode` reads them."""
    standard_in = SimpleNamespace(
        buffer=io.BytesIO(Path(paths.rows).read_bytes()), isatty=lambda: False
    )
    out = io.BytesIO()
    out.close = lambda: None  # type: ignore[method-assign]
    standard_out = SimpleNamespace(buffer=out, isatty=lambda: False, flush=lambda: None)
    monkeypatch.setattr(sys, "stdin", standard_in)
    monkeypatch.setattr(sys, "stdout", standard_out)
    assert soundstorm("--quiet") == 0
    monkeypatch.undo()
    with open_stream(io.BytesIO(out.getvalue()), where="the test") as source:
        streamed = {row["id"]: row for row in source.rows()}
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out.parquet")) == 0
    for name, row in read(tmp_path / "out.parquet").items():
        assert np.array_equal(row["acoustic"], streamed[name]["acoustic"])


def test_trace_levels_and_json(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.parquet"
    out = tmp_path / "out.parquet"
    code = soundstorm(
        paths.rows, "-o", str(out), "--levels", "1", "--iterations", "5", "--trace", str(trace),
        "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    assert read(out)["u1"]["acoustic"].shape == (40, 1)
    passes = {row["id"]: np.array(row["passes"]) for row in pq.read_table(trace).to_pylist()}
    assert passes["u1"].shape == (40, 1)
    assert set(passes["u1"].ravel()) == {1, 2, 3, 4, 5}


def test_levels_taken_together(soundstorm: Run, paths: SimpleNamespace, tmp_path: Path) -> None:
    trace = tmp_path / "trace.parquet"
    out = tmp_path / "out.parquet"
    assert soundstorm(paths.rows, "-o", str(out), "--iterations", "3x2", "--trace", str(trace)) == 0
    for row in pq.read_table(trace).to_pylist():
        passes = np.array(row["passes"])
        assert set(passes[:, 0]) == {1, 2, 3}
        assert np.array_equal(passes[:, 0], passes[:, 1])
    with open_rows(str(out)) as source:
        settings = source.provenance.stages[-1].settings
    assert settings == {"iterations": [3, 0], "temperature": 1.0, "seed": 0, "prompt": None}


@pytest.mark.parametrize(
    ("trace", "arguments", "sentence"),
    [
        ("in.parquet", [], "is an input, too"),
        ("out/../in.parquet", [], "is an input, too"),
        ("out.parquet", ["-o", "out.parquet"], "is, or lies in, -o out.parquet"),
        ("out/t.parquet", [], "is, or lies in, -o out"),
        ("voice.parquet", ["--prompt", "voice.parquet"], "is, or lies in, --prompt voice.parquet"),
    ],
)
def test_a_trace_replaces_no_shard(
    soundstorm: Run,
    paths: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    trace: str,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shards = {Path(name): Path(paths.rows).read_bytes() for name in ("in.parquet", "voice.parquet")}
    for path, data in shards.items():
        path.write_bytes(data)
    assert soundstorm("in.parquet", "-o", "out", *arguments, "--trace", trace) == 2
    err = capsys.readouterr().err
    assert err == f"soundstorm: --trace {trace} {sentence}: choose another path\n"
    assert {path: path.read_bytes() for path in Path().iterdir()} == shards


def test_a_trace_that_cannot_be_written(
    soundstorm: Run,
    paths: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = str(tmp_path / f"{'t' * 243}.parquet")  # whose .tmp has a longer name than a file can
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), "--trace", long) == 1
    err = capsys.readouterr().err
    assert err == f"soundstorm: {long} cannot be written (File name too long)\n"

    others = pq.ParquetWriter.write_table

    def write_table(self: pq.ParquetWriter, table: pa.Table, *more: Any, **named: Any) -> None:
        if "passes" in table.column_names:
            raise OSError(errno.ENOSPC, "told at length by pyarrow")
        others(self, table, *more, **named)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    short = str(tmp_path / "t.parquet")
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), "--trace", short) == 1
    err = capsys.readouterr().err
    assert err == f"soundstorm: {short} cannot be written (No space left on device)\n"
    assert not list(tmp_path.glob("*.*"))


def test_a_trace_does_not_take_the_errors_of_others(
    soundstorm: Run,
    paths: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that leaves early is no error with a trace either."""

    def write(_: object) -> int:
        raise BrokenPipeError

    out = SimpleNamespace(write=write, flush=lambda: None, closed=False)
    standard_out = SimpleNamespace(buffer=out, isatty=lambda: False, flush=lambda: None)
    monkeypatch.setattr(sys, "stdout", standard_out)
    assert soundstorm(paths.rows, "--trace", str(tmp_path / "t.parquet")) == 141
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


def traced(path: Path) -> dict[str, Row]:
    return {row["id"]: row for row in pq.read_table(path).to_pylist()}


@pytest.fixture
def two_shards(paths: SimpleNamespace, tmp_path: Path) -> Path:
    """The four rows, two a shard."""
    with open_rows(paths.rows) as source:
        rows, schema, origin = list(source.rows()), source.schema, source.provenance
    folder = tmp_path / "in"
    for part in range(2):
        name = f"part-{part:05d}-of-00002.parquet"
        write_shard(folder / name, [rows[2 * part : 2 * part + 2]], schema, origin)
    return folder


def test_a_rerun_leaves_what_is_traced(
    soundstorm: Run, two_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace.parquet"
    arguments = [str(two_shards), "-o", str(out), "--iterations", "2,1", "--trace", str(trace)]
    assert soundstorm(*arguments) == 0
    assert "not traced again" not in capsys.readouterr().err
    whole, data = traced(trace), trace.read_bytes()
    assert list(whole) == ["u0", "u1", "u2", "u3"]
    assert soundstorm(*arguments) == 0
    said = "decode: {} shards already done are not traced again: --force traces them\n"
    assert said.format(2) in capsys.readouterr().err
    assert trace.read_bytes() == data
    (out / "part-00001-of-00002.parquet").unlink()
    assert soundstorm(*arguments) == 0
    assert said.format(1) in capsys.readouterr().err
    assert traced(trace) == whole
    assert soundstorm(*arguments, "--force") == 0
    assert trace.read_bytes() == data


def test_a_trace_of_other_settings_is_not_kept(
    soundstorm: Run, two_shards: Path, tmp_path: Path
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace.parquet"
    arguments = [str(two_shards), "-o", str(out)]
    assert soundstorm(*arguments, "--seed", "1", "--trace", str(trace)) == 0
    assert soundstorm(*arguments) == 0
    (out / "part-00001-of-00002.parquet").unlink()
    assert soundstorm(*arguments, "--trace", str(trace)) == 0
    assert list(traced(trace)) == ["u2", "u3"]


def test_voice_from_shards(soundstorm: Run, paths: SimpleNamespace, tmp_path: Path) -> None:
    voice = ["--prompt", paths.rows, "--prompt-row", "u3", "--prompt-seconds", "0.4"]
    assert soundstorm(paths.rows, "-o", str(tmp_path / "a"), *voice) == 0
    assert soundstorm(paths.rows, "-o", str(tmp_path / "b"), *voice, "--keep-prompt") == 0
    bare, kept, given = read(tmp_path / "a"), read(tmp_path / "b"), read(Path(paths.rows))
    for name, row in bare.items():
        assert row["prompt_frames"] == 0
        assert kept[name]["prompt_frames"] == 20
        assert np.array_equal(kept[name]["acoustic"][:20], given["u3"]["acoustic"][:20])
        assert np.array_equal(kept[name]["acoustic"][20:], row["acoustic"])


def test_voice_from_a_recording(
    soundstorm: Run,
    paths: SimpleNamespace,
    kmeans: tuple[Path, TokenSpec],
    speech_wav: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded: list[str] = []

    def load_codec(spec: str, **options: object) -> Codec:
        loaded.append(spec)
        return TinyCodec()

    monkeypatch.setattr("stages.codec.registry.load_codec", load_codec)
    arguments = [paths.rows, "-o", str(tmp_path / "out"), "--prompt", str(speech_wav)]
    assert soundstorm(*arguments) == 2
    assert "the semantic tokens of the model and mini do not fit" in capsys.readouterr().err
    assert soundstorm(*arguments, "--kmeans", str(kmeans[0]), "--keep-prompt") == 0
    assert loaded == ["tiny"], "the model's own codec"
    rows = read(tmp_path / "out")
    assert rows["u0"]["prompt_frames"] == 100  # two seconds
    assert len(rows["u0"]["acoustic"]) == 130


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--iterations", "0"], "--iterations 0"),
        (["--iterations", "2,2,2"], "names 3 levels while the model makes 2"),
        (["--iterations", "2,1x2"], "names 3 levels while the model makes 2"),
        (["--iterations", "1x0"], "--iterations 1x0 is no list"),
        (["--levels", "3"], "more than the model's 2"),
        (["--prompt-seconds", "-1"], "--prompt-seconds -1"),
        (["--prompt-seconds", "three"], "--prompt-seconds three"),
        (["--keep-prompt"], "go with --prompt"),
        (["--prompt-row", "u1"], "go with --prompt"),
        (["--codec", "mini"], "--codec and --kmeans go with --prompt"),
        (["-k", "mini"], "--codec and --kmeans go with --prompt"),
        (["--prompt", "{rows}", "--codec", "mini"], "are for a recording as --prompt"),
        (["--prompt", "{rows}", "--kmeans", "mini"], "are for a recording as --prompt"),
        (["--iterations", "99999999999999999999,1"], "more than 10000 passes of a level"),
        (["--iterations", "2,2", "--levels", "1"], "names 2 levels while 1 level is to be made"),
        (["--trace", "trace.txt"], "must be a .parquet"),
        (["--shard", "3/2"], "--shard 3/2"),
        (["--device", "abacus"], "no device abacus"),
        (
            ["--precision", "int4"],
            "int4 is no precision: use one of float32, float32-packed, int8, bfloat16",
        ),
        (["--precision", "int8", "--compile"], "int8 passes cannot be compiled"),
        (["--guidance", "2"], "trained without semantic tokens"),
        (["--guidance", "2,1"], "a guidance of 2,1 needs a model"),
        (["--guidance", "-1"], "a guidance of -1.0 is not 0 or more"),
        (["--guidance", "2,x"], "--guidance 2,x is neither a number"),
        (["--guidance", "2,2,1"], "--guidance 2,2,1 names 3 levels while the model makes 2"),
        (["--prompt", "{rows}"], "4 rows: pick one"),
        (["--prompt", "{rows}", "--prompt-row", "u9"], "no row u9"),
        (["--prompt", "{rows}", "--prompt-row", "u0"], "needs both"),
        (["--prompt", "voice.wav", "--prompt-row", "u0"], "is none"),
        (["--prompt", "voice.wav", "--kmeans", "{model}"], "kmeans"),
    ],
)
def test_refusals(
    soundstorm: Run,
    paths: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    filled = [argument.format(rows=paths.rows, model=paths.model) for argument in arguments]
    assert soundstorm(paths.rows, "-o", str(tmp_path / "out"), *filled) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_model_refusals(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "out")]
    assert soundstorm(paths.rows, *out, model=False) == 2  # by mini, whose tokens they are not
    err = capsys.readouterr().err
    assert "the semantic tokens of mini and" in err
    assert err.count("\n") == 1
    assert soundstorm(paths.rows, *out, "--model", str(tmp_path), model=False) == 2
    assert "is no model" in capsys.readouterr().err


def test_audio_is_no_input(
    soundstorm: Run, speech_wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soundstorm(str(speech_wav), "-o", str(tmp_path / "out")) == 2
    assert "run tokenize-semantic on it first" in capsys.readouterr().err


def settings(path: Path) -> dict[str, Any]:
    with open_rows(str(path)) as source:
        return source.provenance.stages[-1].settings


def test_guidance_is_part_of_the_settings(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path
) -> None:
    guided = tmp_path / "guided"
    shutil.copytree(paths.model, guided)
    document = json.loads((guided / "config.json").read_text())
    document["config"]["unconditional"] = True
    (guided / "config.json").write_text(json.dumps(document))
    outs = [str(tmp_path / f"{name}.parquet") for name in ("plain", "guided", "by-level")]
    given = ([], ["--guidance", "4"], ["--guidance", "4,1"])
    for out, more in zip(outs, given, strict=True):
        arguments = [paths.rows, "-o", out, "--model", str(guided), "--device", "cpu", *more]
        assert soundstorm(*arguments, model=False) == 0
    plain, other, by_level = (settings(Path(out)) for out in outs)
    assert "guidance" not in plain
    assert other == {**plain, "guidance": 4.0}
    assert by_level == {**plain, "guidance": [4.0, 1.0]}
    before, after, first = (read(Path(out))["u3"]["acoustic"] for out in outs)
    assert not np.array_equal(before, after)
    assert np.array_equal(first[:, 0], after[:, 0])
    assert not np.array_equal(first[:, 1], after[:, 1])


def test_precisions_are_part_of_the_settings(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path
) -> None:
    """float32 is the default, to the byte; another precision redoes a shard, and only once."""
    plain, named, out = tmp_path / "plain.parquet", tmp_path / "named.parquet", tmp_path / "out"
    assert soundstorm(paths.rows, "-o", str(plain)) == 0
    assert soundstorm(paths.rows, "-o", str(named), "--precision", "float32") == 0
    assert plain.read_bytes() == named.read_bytes()
    assert set(settings(plain)) == {"iterations", "temperature", "seed", "prompt"}

    def shards_written(*more: str) -> int:
        assert soundstorm(paths.rows, "-o", str(out), "--json", *more) == 0
        return int(json.loads(sys.stdout.getvalue().splitlines()[-1])["shards_written"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        for precision in PRECISIONS:
            assert shards_written("--precision", precision) == 1
            assert shards_written("--precision", precision) == 0
            assert settings(out).get("precision", "float32") == precision
    assert {name: len(row["acoustic"]) for name, row in read(out).items()} == {
        name: len(row["acoustic"]) for name, row in read(plain).items()
    }


def test_an_int8_row_is_the_same_alone(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path
) -> None:
    options = ["--precision", "int8", "--prompt-seconds", "0.3", "--keep-going"]
    assert soundstorm(paths.rows, "-o", str(tmp_path / "all"), *options) == 0
    with open_rows(paths.rows) as source:
        rows, origin = list(source.rows()), source.provenance
    schema = pa.schema([ID, TEXT, SEMANTIC, acoustic_field(2)])
    write_shard(tmp_path / "one.parquet", [rows[2:3]], schema, origin)
    one = str(tmp_path / "one.parquet")
    assert soundstorm(one, "-o", str(tmp_path / "alone"), *options) == 0
    alone, together = read(tmp_path / "alone"), read(tmp_path / "all")
    assert list(alone) == ["u2"]
    assert np.array_equal(alone["u2"]["acoustic"], together["u2"]["acoustic"])


def test_a_cpu_tells_what_it_imitates(
    soundstorm: Run,
    paths: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    for precision, told in (("float16", True), ("int8", False)):
        arguments = [paths.rows, "-o", str(tmp_path / precision), "--precision", precision]
        assert soundstorm(*arguments) == 0
        said = f"decode: this CPU imitates {precision}: float32 is faster"
        assert (said in capsys.readouterr().err) == told


def test_compiled_passes_make_the_same_tokens(
    soundstorm: Run, paths: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.nn.compiled.BACKEND", "eager")
    trace = tmp_path / "trace.parquet"
    assert soundstorm(paths.rows, "-o", str(tmp_path / "plain")) == 0
    arguments = ["-o", str(tmp_path / "compiled"), "--compile", "--trace", str(trace)]
    assert soundstorm(paths.rows, *arguments) == 0
    assert settings(tmp_path / "compiled")["compiled"] is True
    plain, compiled = read(tmp_path / "plain"), read(tmp_path / "compiled")
    for name, row in plain.items():
        assert np.array_equal(row["acoustic"], compiled[name]["acoustic"])
    assert pq.read_table(trace).num_rows == 4


def test_audiolm_in_int8(
    soundstorm: Run,
    paths: SimpleNamespace,
    kmeans: tuple[Path, TokenSpec],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    config = CoarseConfig(
        semantic_codebook_size=5, codebook_size=8, levels=1, layers=1, heads=2, width=16,
        feed_forward=32,
    )  # fmt: skip
    save_stage(
        tmp_path / "coarse",
        config=config,
        weights=StageNetwork(config).state_dict(),
        tokens={"semantic": kmeans[1], "acoustic": TinyCodec().spec},
    )
    coarse = ["--method", "audiolm", "--coarse", str(tmp_path / "coarse"), "--levels", "1"]
    arguments = [paths.rows, *coarse, "--device", "cpu"]
    for name in ("float32", "int8"):
        out = ["-o", str(tmp_path / name), "--precision", name]
        assert soundstorm(*arguments, *out, model=False) == 0
    assert "precision" not in settings(tmp_path / "float32")
    assert settings(tmp_path / "int8")["precision"] == "int8"
    assert read(tmp_path / "int8")["u3"]["acoustic"].shape == (60, 1)
    for more, sentence in (
        (["--precision", "bfloat16"], "AudioLM does not run in bfloat16: use float32 or int8"),
        (["--compile"], "--compile goes with --method soundstorm, not with audiolm"),
    ):
        capsys.readouterr()
        assert soundstorm(*arguments, "-o", str(tmp_path / "refused"), *more, model=False) == 2
        assert capsys.readouterr().err == f"soundstorm: {sentence}\n"
