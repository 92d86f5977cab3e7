"""Provenance: exact rates, refusal of what does not fit, and of other formats."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from stages.errors import DataMismatch
from stages.shards.provenance import METADATA_KEY, Provenance, StageRecord, hash_json
from stages.shards.spec import TokenSpec

SPEC = TokenSpec(
    kind="acoustic",
    name="codec",
    fingerprint="a" * 64,
    frame_rate=Fraction(44100, 1024),
    codebook_size=1024,
    levels=8,
)
RECORD = StageRecord(
    stage="tokenize-acoustic", version="1", settings={"levels": 8}, models={"m": "b"}, tokens=SPEC
)


def test_provenance_survives_metadata_with_its_rate_exact():
    provenance = Provenance((RECORD,))
    assert Provenance.from_metadata(provenance.to_metadata(), where="x") == provenance
    assert b"11025/256" in provenance.to_metadata()[METADATA_KEY]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "c" * 64}, "maker"),
        ({"frame_rate": Fraction(50)}, "frame rate"),
        ({"codebook_size": 16}, "codebook size"),
        ({"kind": "semantic"}, "kind"),
    ],
)
def test_tokens_that_differ_do_not_fit(change, said):
    with pytest.raises(DataMismatch, match=f"a and b do not fit: their {said}"):
        SPEC.require_same(replace(SPEC, **change), ours="a", theirs="b")


def test_fewer_levels_of_one_codec_fit_but_do_not_join():
    fewer = replace(SPEC, levels=4)
    SPEC.require_same(fewer, ours="a", theirs="b")
    with pytest.raises(DataMismatch, match="levels"):
        Provenance((RECORD,)).require_same_tokens(
            Provenance((replace(RECORD, tokens=fewer),)), ours="a", theirs="b"
        )


def test_the_last_stage_that_wrote_tokens_describes_them():
    later = replace(RECORD, stage="decode", tokens=replace(SPEC, levels=4))
    tokens = Provenance((RECORD, later)).tokens("acoustic")
    assert tokens is not None
    assert tokens.levels == 4
    with pytest.raises(DataMismatch, match="run tokenize-semantic"):
        Provenance((RECORD,)).require_tokens("semantic", where="x")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "not a token shard"),
        (b"{", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"format_version": "2.0", "stages": []}', "shard format 2.0"),
        (b'{"format_version": "1.7", "stages": [{}]}', "without complete stages"),
        (b'{"format_version": "1.0"}', "without complete stages"),
    ],
)
def test_foreign_metadata_is_refused(raw, said):
    metadata = None if raw is None else {METADATA_KEY: raw}
    with pytest.raises(DataMismatch, match=said):
        Provenance.from_metadata(metadata, where="x.parquet")


def test_a_newer_minor_version_is_read():
    raw = json.dumps({"format_version": "1.9", "stages": [], "new": 1}).encode()
    assert Provenance.from_metadata({METADATA_KEY: raw}, where="x") == Provenance()


def test_hashes_do_not_depend_on_the_order_of_keys():
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})
