"""Names for whatever ids hold."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.codec.file_names import collision_key, hashed_name, plain_name

IDS = st.one_of(
    st.text(min_size=1, max_size=400),
    st.text(alphabet="./\\ab~ \n\x00-é\u0301", min_size=1, max_size=20),
    st.lists(st.sampled_from(["..", ".", "", "a", "CON", "b.wav", "~"]), min_size=1).map("/".join),
)


@pytest.mark.parametrize("row_id", ["1034-121119-0000", "s0/u1", "sprecherin/größe 1", "東京", "ა"])
def test_harmless_ids_stay_as_they_are(row_id: str) -> None:
    assert plain_name(row_id) == row_id


@pytest.mark.parametrize(
    "row_id",
    [
        "..", "../../etc/passwd", "/etc/passwd", "a//b", "a/", ".hidden", "a\\b", "a\nb", "a\x00b",
        "a:b", "a*", "con", "aux.txt", "-rf", " a", "a.", "e\u0301", "x" * 300, "a.wav/b",
        "manifest.jsonl/b", "\u202eevil", "",
    ],
)  # fmt: skip
def test_harmful_ids_are_flat_and_hashed(row_id: str) -> None:
    name = plain_name(row_id)
    assert name == hashed_name(row_id)
    assert "/" not in name
    assert len(name) >= 12


@settings(max_examples=300)
@given(IDS)
def test_a_name_stays_inside_its_folder_and_fits_a_file_system(row_id: str) -> None:
    name = plain_name(row_id)
    path = Path("out") / (name + ".wav")
    assert path.parts[0] == "out"
    assert not {"..", ".", "", "/"} & set(path.parts[1:])
    assert all(len(part.encode()) <= 200 for part in path.parts)
    assert unicodedata.normalize("NFC", name) == name
    assert name.isprintable()


@settings(max_examples=300)
@given(IDS, IDS)
def test_different_ids_get_different_names(one: str, other: str) -> None:
    if one != other:
        assert plain_name(one) != plain_name(other)
        assert hashed_name(one) != hashed_name(other)


def test_collisions_by_case_and_composition_are_seen() -> None:
    assert collision_key("Straße") == collision_key("STRASSE")
    assert collision_key("e\u0301") == collision_key("É")
    assert collision_key("a") != collision_key("b")
