"""File names for utterances, whatever their ids hold."""

from __future__ import annotations

import hashlib
import unicodedata

MAX_STEM_BYTES = 160
"""Leaves room in the 255 bytes of most file systems for a suffix and a temporary's ending."""
MAX_PATH_BYTES = 480
HASH_DIGITS = 12

_HARMLESS = frozenset("-_.+=@,()[] ")
_OUR_SUFFIXES = (".wav", ".flac", ".jsonl", ".tmp")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))]
)


def plain_name(row_id: str) -> str:
    """The relative path without suffix under which to keep an utterance.

    An id that is a harmless relative path is kept as it stands, with its folders, so that the
    files' paths give the ids back; any other is cleaned and gets a hash of itself.
    """
    if _is_harmless(row_id):
        return row_id
    return hashed_name(row_id)


def hashed_name(row_id: str) -> str:
    """A flat name that no other id has: what is harmless of the id, and a hash of all of it."""
    kept = "".join(
        character if _is_word(character) else "_"
        for character in unicodedata.normalize("NFC", row_id)
    )
    stem = kept.encode()[: MAX_STEM_BYTES - HASH_DIGITS - 1].decode(errors="ignore")
    digest = hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{stem.strip('_ .-') or 'utterance'}-{digest}"


def collision_key(name: str) -> str:
    """Equal for names that a file system may hold to be one: by case or by composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_harmless(row_id: str) -> bool:
    if unicodedata.normalize("NFC", row_id) != row_id:
        return False
    if len(row_id.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        return False
    *folders, last = row_id.split("/")
    # A folder must never be in the way of another row's file or of our own files.
    return all(map(_is_harmless_part, [*folders, last])) and not any(
        folder.casefold().endswith(_OUR_SUFFIXES) for folder in folders
    )


def _is_harmless_part(part: str) -> bool:
    return (
        0 < len(part.encode("utf-8", "replace")) <= MAX_STEM_BYTES
        and all(map(_is_word, part))
        and part[0] not in " .-"
        and part[-1] not in " ."
        and part.split(".")[0].strip().casefold() not in _DEVICES
    )


def _is_word(character: str) -> bool:
    """Letters, marks and digits of any script, and punctuation that no shell or system minds."""
    return unicodedata.category(character)[0] in "LMN" or character in _HARMLESS
