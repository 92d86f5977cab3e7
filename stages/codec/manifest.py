"""`manifest.jsonl`: which file of a folder holds which utterance, and what it was made of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.codec.file_names import collision_key, hashed_name, plain_name
from stages.shards.writer import atomic_path, locked_folder

MANIFEST_NAME = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class SoundFile:
    """One utterance's file."""

    id: str

    file: str
    """Relative to the folder, with `/`."""

    samples: int
    """A channel."""

    sample_rate: int
    """Hz."""

    fingerprint: str
    """SHA-256 hex of its tokens, of what made them sound, and of the format."""


class Manifest:
    """The utterances of a folder; lines are appended as files come, and put in order at the end.

    A line is written before its file gets its name, and a file that is to be replaced goes before
    that. So whenever a run is killed, a line whose file exists tells the truth about it, and no
    file of ours is without a line. A lock lets array jobs share a folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._by_id = {entry.id: entry for entry in read_manifest(folder)}
        self._added: dict[str, SoundFile] = {}
        self._owners = {collision_key(entry.file): entry.id for entry in self._by_id.values()}

    def done(self, row_id: str, fingerprint: str) -> SoundFile | None:
        """The file of an utterance if it is there and made of just this."""
        entry = self._by_id.get(row_id)
        if entry is None or entry.fingerprint != fingerprint:
            return None
        return entry if (self._folder / entry.file).is_file() else None

    def name_for(self, row_id: str, suffix: str) -> str:
        """The file for an utterance: its own from before, or one that no other id has."""
        entry = self._by_id.get(row_id)
        if entry is not None and entry.file.endswith(suffix):
            return entry.file
        name = plain_name(row_id) + suffix
        if self._owners.get(collision_key(name), row_id) != row_id:
            name = hashed_name(row_id) + suffix
        return name

    def is_ours(self, file: str) -> bool:
        """Whether this folder's manifest knows the file."""
        return collision_key(file) in self._owners

    def add(self, entry: SoundFile) -> None:
        """Note a file that is about to get its name."""
        before = self._by_id.get(entry.id, entry)
        for name in (before.file, entry.file):  # they differ where the format does
            (self._folder / name).unlink(missing_ok=True)
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        # Opened anew each time: another job may have put a new manifest in its place.
        with locked_folder(self._folder), (self._folder / MANIFEST_NAME).open("ab") as file:
            # What a kill left of a line must not run into this one.
            file.write(b"\n" * _is_cut(self._folder / MANIFEST_NAME) + line.encode())
        self._by_id[entry.id] = self._added[entry.id] = entry
        self._owners[collision_key(entry.file)] = entry.id

    def save(self) -> None:
        """Put the manifest in order: sorted by id, one line an utterance whose file exists.

        What another job has added since this one began stays in any case: its file may be about
        to get its name.
        """
        with locked_folder(self._folder):
            entries = {entry.id: entry for entry in read_manifest(self._folder)} | self._added
            there = [
                entries[row_id]
                for row_id in sorted(entries)
                if row_id not in self._by_id or (self._folder / entries[row_id].file).is_file()
            ]
            with atomic_path(self._folder / MANIFEST_NAME) as temporary:
                lines = (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in there)
                temporary.write_text("".join(lines), encoding="utf-8")


def read_manifest(folder: Path) -> list[SoundFile]:
    """The entries of a folder's manifest, the last of an id being the one that holds.

    A line that a killed run left unfinished is passed over: its file never got its name.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return []
    entries = []
    for line in path.read_bytes().splitlines():
        try:
            entries.append(SoundFile(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return entries


def _is_cut(path: Path) -> bool:
    content_end = path.stat().st_size
    if content_end == 0:
        return False
    with path.open("rb") as file:
        file.seek(content_end - 1)
        return file.read(1) != b"\n"
