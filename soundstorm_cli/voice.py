"""The row that `decode --prompt` speaks like: from token shards, or tokenized from a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.assets import model_folder
from stages.errors import DataMismatch, RowFailure

if TYPE_CHECKING:
    from stages.shards.row_stage import RowStage
    from stages.shards.rows import Row
    from stages.soundstorm.decoding import TokenModel


@dataclass(frozen=True, kw_only=True)
class VoiceSource:
    """What the command line says about the voice."""

    path: str | None
    """A recording, or token shards."""

    row: str | None
    """Id of the row of token shards."""

    codec: str | None
    """Codec for a recording; the model's where none is given."""

    kmeans: str
    """Folder of the k-means for a recording, or `mini`."""

    device: str


def load_voice(model: TokenModel, voice: VoiceSource) -> Row:
    """Find or make the row, with the model's own kinds of tokens.

    Raises:
        DataMismatch: if there is no such row, it cannot be tokenized, or its tokens do not fit.
    """
    from stages.shards.reader import is_token_set

    assert voice.path is not None
    if is_token_set(voice.path):
        return _from_shards(model, voice.path, voice.row)
    if voice.row is not None:
        raise DataMismatch(f"--prompt-row picks a row of token shards, and {voice.path} is none")
    return _from_recording(model, voice, voice.path)


def _from_shards(model: TokenModel, path: str, row_id: str | None) -> Row:
    from stages.shards.reader import open_rows
    from stages.shards.rows import row_problem

    with open_rows(path) as source:
        for kind, spec in (("semantic", model.semantic), ("acoustic", model.acoustic)):
            given = source.provenance.require_tokens(spec.kind, where=path)
            spec.require_same(given, ours="the model", theirs=path)
            source.require_columns(kind)
        if row_id is None and source.num_rows != 1:
            raise DataMismatch(f"{path} has {source.num_rows} rows: pick one with --prompt-row ID")
        for row in source.rows():
            if row_id in (None, row["id"]):
                problem = row_problem(row, source.provenance)
                if problem:
                    raise DataMismatch(f"{path} is no prompt: {problem}")
                return row
    raise DataMismatch(f"{path} has no row {row_id}")


def _from_recording(model: TokenModel, voice: VoiceSource, path: str) -> Row:
    from stages.codec.registry import load_codec
    from stages.codec.tokenizer import AcousticTokenizer
    from stages.semantic.encoders.registry import load_chosen
    from stages.semantic.kmeans import load_kmeans
    from stages.semantic.tokenizer import SemanticTokenizer
    from stages.semantic.unit_search.refining import load_refinement

    clusters = load_kmeans(model_folder(voice.kmeans, "kmeans"))
    model.semantic.require_same(clusters.tokens, ours="the model", theirs=voice.kmeans)
    name = voice.codec or model.acoustic.name
    try:
        codec = load_codec(name, levels=model.levels, device=voice.device)
    except DataMismatch as error:
        hint = "" if voice.codec else f" (the model's codec is {name}; --codec says where it is)"
        raise DataMismatch(f"{error}{hint}") from None
    model.acoustic.require_same(codec.spec, ours="the model", theirs=name)
    semantic = SemanticTokenizer(
        load_chosen(clusters.choice, device=voice.device, kmeans=voice.kmeans),
        clusters,
        refinement=load_refinement(
            clusters.refiner, clusters.encoder_fingerprint, device=voice.device
        ),
    )
    row: Row = {"id": path, "audio": path}
    for stage in (semantic, AcousticTokenizer(codec)):
        row |= _tokenize(stage, row, path)
    return row


def _tokenize(stage: RowStage, row: Row, path: str) -> Row:
    ((_, values),) = stage.process([row])
    if isinstance(values, RowFailure):
        raise DataMismatch(f"--prompt {path} cannot be used: {values}")
    return values
