"""What users hand in by mistake: one sentence, the right exit code, and the neighbours done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from stages.shards.failures import read_failures
from stages.shards.reader import open_rows

RATE = 16_000


def empty_file(path: Path, speech: Path) -> Path:
    path.with_suffix(".wav").touch()
    return path.with_suffix(".wav")


def header_only(path: Path, speech: Path) -> Path:
    soundfile.write(path.with_suffix(".wav"), np.zeros(0), RATE)
    return path.with_suffix(".wav")


def cut_flac(path: Path, speech: Path) -> Path:
    samples, rate = soundfile.read(speech)
    target = path.with_suffix(".flac")
    soundfile.write(target, samples, rate)
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    return target


def cut_header(path: Path, speech: Path) -> Path:
    path.with_suffix(".wav").write_bytes(speech.read_bytes()[:20])
    return path.with_suffix(".wav")


def text_as_wav(path: Path, speech: Path) -> Path:
    path.with_suffix(".wav").write_text("this is not sound\n" * 100)
    return path.with_suffix(".wav")


def one_sample(path: Path, speech: Path) -> Path:
    soundfile.write(path.with_suffix(".wav"), np.array([0.5]), RATE)
    return path.with_suffix(".wav")


def not_a_number(path: Path, speech: Path) -> Path:
    samples = np.full(RATE, 0.1)
    samples[100] = np.nan
    soundfile.write(path.with_suffix(".wav"), samples, RATE, subtype="FLOAT")
    return path.with_suffix(".wav")


def infinite(path: Path, speech: Path) -> Path:
    samples = np.full(RATE, 0.1)
    samples[100] = np.inf
    soundfile.write(path.with_suffix(".wav"), samples, RATE, subtype="FLOAT")
    return path.with_suffix(".wav")


BAD_AUDIO = [
    empty_file, header_only, cut_flac, cut_header, text_as_wav, one_sample, not_a_number, infinite,
]  # fmt: skip


def is_one_sentence(text: str) -> bool:
    return "Traceback" not in text and "\n" not in text.strip() and len(text) < 400


@pytest.mark.parametrize("make", BAD_AUDIO)
@pytest.mark.parametrize("stage", ["tokenize-semantic", "tokenize-acoustic"])
def test_bad_audio_fails_alone(make, stage, command, pipeline, speech_wav, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bad = make(corpus / "bad", speech_wav)
    for name in ("a", "z"):
        shutil.copy(speech_wav, corpus / f"{name}.wav")
    option = (
        ["--kmeans", pipeline.kmeans]
        if stage == "tokenize-semantic"
        else ["--codec", pipeline.codec]
    )
    output = tmp_path / "out"
    result = command(stage, corpus, "-o", output, "--workers", 0, *option)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "1 rows failed" in result.err
    [failure] = read_failures(output / "failures.jsonl")
    assert failure["id"] == bad.stem
    assert is_one_sentence(failure["reason"])
    assert [row["id"] for row in open_rows(output).rows()] == ["a", "z"]
    assert command(stage, corpus, "-o", output, "--workers", 0, "--keep-going", *option).code == 0


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate", "channels"),
    [
        (".wav", "PCM_16", 48_000, 8),
        (".wav", "PCM_U8", 8_000, 1),
        (".wav", "DOUBLE", 44_100, 2),
        (".flac", "PCM_24", 22_050, 1),
        (".mp3", None, 44_100, 2),
    ],
)
def test_odd_audio_is_fine(
    suffix, subtype, rate, channels, command, pipeline, make_speech, tmp_path
):
    samples = np.repeat(make_speech(1.0, sample_rate=rate)[:, None], channels, axis=1)
    audio = tmp_path / f"odd{suffix}"
    soundfile.write(audio, samples, rate, subtype=subtype)
    output = tmp_path / "out"
    result = command("tokenize-acoustic", audio, "-o", output, "--codec", pipeline.codec)
    assert (result.code, result.err.count("failed")) == (0, 0)
    [row] = open_rows(output).rows()
    assert abs(len(row["acoustic"]) - 50) <= 2
    assert row["sample_rate"] == rate


def edit(source: Path, target: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """A shard that was changed by hand."""
    [part] = source.glob("*.parquet")
    target.mkdir(parents=True, exist_ok=True)
    pq.write_table(change(pq.read_table(part)), target / part.name)
    return target


def edit_metadata(table: pa.Table, change: Callable[[dict], object]) -> pa.Table:
    document = json.loads(table.schema.metadata[b"soundstorm"])
    change(document)
    return table.replace_schema_metadata({b"soundstorm": json.dumps(document).encode()})


def tokens_of(document: dict, kind: str) -> dict:
    return next(
        stage["tokens"]
        for stage in document["stages"]
        if stage["tokens"] and stage["tokens"]["kind"] == kind
    )


def rewrite(column: str, change: Callable[[list], object]) -> Callable[[pa.Table], pa.Table]:
    def apply(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        change(values)
        index = table.schema.names.index(column)
        return table.set_column(
            index, table.schema.field(index), pa.array(values, table[column].type)
        )

    return apply


def past_the_codebook(values: list) -> None:
    values[1][0] = 60_000


MISFITS: list[tuple[str, Callable[[pa.Table], pa.Table], str, str]] = [
    ("decode", lambda table: table.drop_columns("semantic"), "no column `semantic`", "semantic"),
    ("vocode", lambda table: table.drop_columns("acoustic"), "no column `acoustic`", "acoustic"),
    ("decode", lambda table: table.drop_columns("id"), "no column `id`", "id"),
    ("decode", lambda table: table.replace_schema_metadata(None), "not a token shard", "metadata"),
    (
        "decode",
        lambda table: edit_metadata(table, lambda d: d.update(format_version="2.0")),
        "shard format 2.0",
        "future",
    ),
    (
        "decode",
        lambda table: edit_metadata(
            table, lambda d: tokens_of(d, "semantic").update(fingerprint="f" * 64)
        ),
        "do not fit",
        "other k-means",
    ),
    (
        "decode",
        lambda table: edit_metadata(
            table, lambda d: tokens_of(d, "semantic").update(frame_rate="25/1")
        ),
        "frame rate",
        "other rate",
    ),
    (
        "vocode",
        lambda table: edit_metadata(
            table, lambda d: tokens_of(d, "acoustic").update(fingerprint="f" * 64)
        ),
        "do not fit|other codec|another codec",
        "other codec",
    ),
    (
        "train",
        lambda table: edit_metadata(
            table, lambda d: tokens_of(d, "acoustic").update(frame_rate="0/1")
        ),
        "positive rate",
        "no rate",
    ),
]


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [pytest.param(*case[:3], id=f"{case[0]}: {case[3]}") for case in MISFITS],
)
def test_shards_that_do_not_fit_are_refused(stage, change, said, command, pipeline, tmp_path):
    import re

    shards = edit(pipeline.full, tmp_path / "shards", change)
    extra = {
        "decode": ["--model", pipeline.model],
        "vocode": ["--codec", pipeline.codec],
        "train": ["--max-steps", 1],
    }[stage]
    result = command(stage, shards, "-o", tmp_path / "out", *extra)
    assert result.code == 2
    assert is_one_sentence(result.err)
    assert re.search(said, result.err)
    assert not list(tmp_path.glob("out/*.parquet"))


@pytest.mark.parametrize("stage", ["decode", "vocode"])
def test_a_code_past_its_codebook_fails_its_row_alone(stage, command, pipeline, tmp_path):
    column = "semantic" if stage == "decode" else "acoustic"
    change = (
        past_the_codebook
        if stage == "decode"
        else lambda values: values[1].__setitem__(0, [60_000] * len(values[1][0]))
    )
    shards = edit(pipeline.full, tmp_path / "shards", rewrite(column, change))
    extra = ["--model", pipeline.model] if stage == "decode" else ["--codec", pipeline.codec]
    output = tmp_path / "out"
    result = command(stage, shards, "-o", output, *extra)
    assert result.code == 1
    [failure] = read_failures(output / "failures.jsonl")
    assert "60000 is past the codebook" in failure["reason"]
    done = list(open_rows(output).rows()) if stage == "decode" else list(output.glob("**/*.wav"))
    assert len(done) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tokenize-semantic", "nothing-here/", "-k", "{kmeans}"], "nothing-here"),
        (["tokenize-semantic", "{empty}", "-k", "{kmeans}"], "empty"),
        (["tokenize-semantic", "{speech}", "-k", "{codec}"], "kmeans"),
        (["tokenize-semantic", "{speech}", "-k", "nowhere"], "nowhere"),
        (["tokenize-semantic", "{speech}", "-k", "{kmeans}", "--shard", "3/3"], "3/3"),
        (["tokenize-acoustic", "{speech}", "--codec", "no-such-codec"], "no-such-codec"),
        (["tokenize-acoustic", "{speech}", "--codec", "{model}"], "codec"),
        (["tokenize-acoustic", "{speech}", "--codec", "{codec}", "--levels", "99"], "99"),
        (["decode", "{full}", "--model", "{codec}"], "holds a codec model"),
        (["decode", "{full}", "--model", "{model}", "--iterations", "16,x"], "16,x"),
        (["decode", "{full}", "--model", "{model}", "--batch-seconds", "inf"], "batch-seconds inf"),
        (["decode", "{full}", "--model", "{model}", "--temperature", "inf"], "temperature of inf"),
        (["tokenize-semantic", "{speech}", "-k", "{kmeans}", "--batch-seconds", "inf"], "inf"),
        (["decode", "{empty}", "--model", "{model}"], "hold no audio"),
        (["decode", "{speech}", "--model", "{model}"], "semantic"),
        (["vocode", "{semantic}", "--codec", "{codec}"], "acoustic"),
        (["train", "{semantic}"], "acoustic"),
        (["train", "{full}", "--set", "network.depth=3"], "depth"),
        (["train", "{full}", "--preset", "huge"], "huge"),
        (["train", "{full}", "--set", "batch_size=many"], "batch_size"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(
    arguments, said, command, pipeline, speech_wav, tmp_path
):
    (tmp_path / "empty").mkdir()
    places = vars(pipeline) | {"empty": tmp_path / "empty", "speech": speech_wav}
    filled = [argument.format(**places) for argument in arguments]
    result = command(*filled, "-o", tmp_path / "out")
    assert result.code == 2
    assert is_one_sentence(result.err)
    assert said in result.err


def test_inspect_reads_everything_the_pipeline_made(
    command, pipeline: SimpleNamespace, tmp_path
) -> None:
    for name, path in vars(pipeline).items():
        result = command("inspect", path, "--json")
        assert result.code == 0, result.err
        described = json.loads(result.out)
        assert described["what"] in ("token shards", f"{name} model", "soundstorm model")
    shards = json.loads(command("inspect", pipeline.full, "--json").out)
    assert shards["rows"] == 6
    assert [stage["stage"] for stage in shards["stages"]] == [
        "tokenize-semantic",
        "tokenize-acoustic",
    ]
    assert len(shards["codes_in_use"]["acoustic"]) == 12
    assert "rows" in command("inspect", pipeline.full).out
