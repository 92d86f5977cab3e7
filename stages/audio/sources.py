"""Finding speech: files, folders, globs, manifests and LibriSpeech's layout to one list of rows."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.audio.manifests import MANIFEST_SUFFIXES, read_manifest
from stages.errors import DataMismatch

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})


@dataclass(frozen=True, kw_only=True)
class _Found:
    """An utterance before ids are settled."""

    names: tuple[str, ...]
    """Possible ids, the shortest first; one that another utterance also has is passed over.

    An id that a manifest gives is the only one.
    """

    audio: str | None
    speaker: str | None = None
    text: str | None = None
    where: str
    in_manifest: bool = False


def find_utterances(inputs: Sequence[str]) -> list[dict[str, Any]]:
    """List the utterances of files, folders (recursively), globs and manifests.

    An id is the manifest's; else, in LibriSpeech's layout (a `.trans.txt` beside the audio), the
    file's stem; else its path in the folder that was given, without the suffix unless two files
    would then be one. A file that several inputs reach is one utterance, unless manifests give it
    several ids.

    Returns:
        Rows with `id`, `audio` (an absolute path, or None), `speaker` and `text`, sorted by id.

    Raises:
        DataMismatch: if an input does not exist, is of no known kind or holds nothing, a manifest
            is malformed, two of its lines contradict each other, or two utterances have one id.
    """
    found: list[_Found] = []
    files: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found += _in_folder(path)
        elif path.is_file():
            if path.suffix.lower() in MANIFEST_SUFFIXES:
                found += _in_manifest(path)
            else:
                files.append(_checked_file(path))
        elif glob.has_magic(given):
            found += _in_glob(given)
        else:
            raise DataMismatch(
                f"{given} does not exist: give a file, a folder, a glob or a manifest"
            )
    found += _named_files(files)
    return _settle_ids(found)


def _checked_file(path: Path) -> Path:
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        known = " ".join(sorted(AUDIO_SUFFIXES | MANIFEST_SUFFIXES))
        raise DataMismatch(
            f"{path} is neither audio nor a manifest by its suffix: use one of {known}"
        )
    return path


def _in_folder(folder: Path) -> list[_Found]:
    found: list[_Found] = []
    for directory, names in _walk(folder):
        texts = _librispeech_texts(directory, names)
        for name in names:
            path = directory / name
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            inside = path.relative_to(folder)
            names_for_id: tuple[str, ...] = (inside.with_suffix("").as_posix(), inside.as_posix())
            if texts is not None:
                names_for_id = (path.stem, *names_for_id)
            found.append(
                _Found(
                    names=names_for_id,
                    audio=_absolute(path),
                    speaker=None if texts is None else _librispeech_speaker(path),
                    text=None if texts is None else texts.get(path.stem),
                    where=str(path),
                )
            )
    if not found:
        raise DataMismatch(
            f"{folder} and the folders in it hold no audio ({' '.join(sorted(AUDIO_SUFFIXES))})"
        )
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder under one, links followed but none twice, hidden names left out."""

    def refuse(error: OSError) -> None:
        raise DataMismatch(f"{error.filename} cannot be listed: {error.strerror}")

    seen: set[str] = set()
    for directory, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(directory)
        if real in seen:  # a link to a parent would otherwise never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(directory), sorted(name for name in names if not name.startswith("."))


def _librispeech_texts(directory: Path, names: Sequence[str]) -> dict[str, str] | None:
    """Transcripts by utterance where the folder has LibriSpeech's `.trans.txt`, else None."""
    transcripts = [directory / name for name in names if name.endswith(".trans.txt")]
    if not transcripts:
        return None
    texts: dict[str, str] = {}
    for path in transcripts:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise DataMismatch(f"{path} cannot be read as UTF-8 transcripts") from None
        for line in lines:
            utterance, _, text = line.strip().partition(" ")
            texts[utterance] = text.strip()
    return texts


def _librispeech_speaker(path: Path) -> str:
    """The speaker of `SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac`, by its name or folder."""
    speaker, dash, _ = path.stem.partition("-")
    return speaker if dash else path.absolute().parent.parent.name


def _in_glob(pattern: str) -> list[_Found]:
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [match for match in matches if match.is_file()]
    if not files:
        raise DataMismatch(f"{pattern} matches no file")
    found = [line for path in files if _is_manifest(path) for line in _in_manifest(path)]
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not found and not audio:
        raise DataMismatch(f"{pattern} matches no audio and no manifest, only other files")
    return found + _named_files(audio)


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() in MANIFEST_SUFFIXES


def _named_files(paths: Sequence[Path]) -> list[_Found]:
    """Files named one by one: their stems, or as much of their paths as tells them apart."""
    absolute = [Path(_absolute(path)) for path in paths]
    if not absolute:
        return []
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    return [
        _Found(
            names=(
                path.stem,
                path.relative_to(common).with_suffix("").as_posix(),
                path.relative_to(common).as_posix(),
            ),
            audio=str(path),
            where=str(given),
        )
        for given, path in zip(paths, absolute, strict=True)
    ]


def _in_manifest(manifest: Path) -> list[_Found]:
    found = []
    for line in read_manifest(manifest):
        if line.id is None and line.audio is None:
            raise DataMismatch(f"{line.where} names neither an id nor an audio file")
        audio = line.audio
        if audio is not None and "://" not in audio:
            # Unlike pathlib's, it leaves the home of an unknown user as written: a missing file.
            audio = _absolute(manifest.parent / os.path.expanduser(audio))  # noqa: PTH111
        if line.id is not None:
            names: tuple[str, ...] = (line.id,)
        else:
            written = Path(line.audio or "")
            stem = written.with_suffix("") if written.name else written  # `.` and `/` have none
            names = (stem.as_posix(), written.as_posix())
        found.append(
            _Found(
                names=names,
                audio=audio,
                speaker=line.speaker,
                text=line.text,
                where=line.where,
                in_manifest=True,
            )
        )
    return found


def _absolute(path: Path) -> str:
    """Absolute and without `..`, but with links as they are: the user's path, not its target."""
    return os.path.abspath(path)  # noqa: PTH100


def _require_unicode(item: _Found) -> None:
    """Refuse a file name of other bytes than UTF-8, which no column of strings can hold."""
    try:
        (item.audio or "").encode()
    except UnicodeEncodeError:
        shown = item.where.encode(errors="backslashreplace").decode()
        raise DataMismatch(f"the file name {shown} is not UTF-8: rename it") from None


def _merge(found: Sequence[_Found]) -> list[_Found]:
    """One utterance for every line of a manifest, and for every file that no line names."""
    lines: dict[tuple[str, ...] | str | None, _Found] = {}
    for item in found:
        if not item.in_manifest:
            continue
        has_id = len(item.names) == 1
        first = lines.setdefault(item.names if has_id else item.audio, item)
        if (item.audio, item.speaker, item.text) != (first.audio, first.speaker, first.text):
            shared = (
                f"have the id {item.names[0]}" if has_id else f"name {item.audio} without an id"
            )
            raise DataMismatch(
                f"two lines {shared} but differ: {first.where} and {item.where}; give each an id "
                "of its own"
            )
    listed = {line.audio for line in lines.values()}
    files: dict[str | None, _Found] = {}
    for item in found:
        if item.in_manifest or item.audio in listed:
            continue
        # A folder in LibriSpeech's layout knows more of a file than a glob or its name does.
        if item.audio not in files or item.speaker is not None:
            files[item.audio] = item
    return [*lines.values(), *files.values()]


def _settle_ids(found: Sequence[_Found]) -> list[dict[str, Any]]:
    """Give each utterance its shortest name that no other has; refuse what stays ambiguous."""
    unique = _merge(found)
    level = dict.fromkeys(range(len(unique)), 0)
    while True:
        chosen = {index: unique[index].names[level[index]] for index in level}
        count = Counter(chosen.values())
        clashing = [
            index
            for index, name in chosen.items()
            if count[name] > 1 and level[index] + 1 < len(unique[index].names)
        ]
        if not clashing:
            break
        for index in clashing:
            level[index] += 1
    places: dict[str, str] = {}
    for index, name in chosen.items():
        if name in places:
            raise DataMismatch(
                f"two utterances have the id {name}: {places[name]} and {unique[index].where}; "
                "give a folder above both, or a manifest with ids"
            )
        places[name] = unique[index].where
        _require_unicode(unique[index])
    rows = [
        {"id": chosen[index], "audio": item.audio, "speaker": item.speaker, "text": item.text}
        for index, item in enumerate(unique)
    ]
    return sorted(rows, key=lambda row: str(row["id"]))
