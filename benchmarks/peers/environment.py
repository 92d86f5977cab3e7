"""The environment that the peers are installed into, apart from ours."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.errors import DataMismatch, StageFailure

DEFAULT = Path(".venv-peers")

REQUIREMENTS = (
    "soundstorm-pytorch==0.6.1",
    "audiolm-pytorch==2.4.0",
    "encodec==0.1.1",
    "soundfile",
)

SAME = ("torch", "torchaudio")
"""What must be the same release on both sides: else torch would be compared, not the peers."""

MARKER = "soundstorm-peers.json"
"""In a finished environment: what was asked for."""

SHARING = "soundstorm-shared.pth"
"""Lets the environment see our packages after its own."""

STAND_IN = ("fairseq", "0.12.2")
"""Both peers import fairseq, for HuBERT, and its last release cannot be imported under Python 3.11
and later. An empty module of that name and release takes its place; nothing that is timed uses it,
and nothing has to be compiled."""


def make_environment(folder: Path, *, share: bool, tell: Callable[[str], None]) -> Path:
    """Make an environment with the peers, unless it is there already.

    Args:
        folder: of the environment; one that was made by hand is used as it is.
        share: use the torch of the running environment instead of installing another, which saves
            7 GB.
        tell: told what takes long.

    Returns:
        Its Python.

    Raises:
        DataMismatch: if the folder holds something else, or an environment without the peers.
        StageFailure: if pip could not install the peers.
    """
    python = (folder / "bin" / "python").absolute()
    marker = folder / MARKER
    wanted = {"requirements": list(REQUIREMENTS), "same": _same(), "shared": share}
    found = json.loads(marker.read_text()) if marker.exists() else None
    if found == {**wanted, "finished": True}:
        return python
    if found is None and folder.exists():
        _require_peers(folder, python)
        return python
    tell(f"installing the peers into {folder}: a minute or two, or ten with a torch of its own")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    marker.write_text(json.dumps({**wanted, "finished": False}))
    packages = Path(_run([str(python), "-c", _WHERE_PACKAGES]).strip())
    _write_stand_in(packages)
    if share:
        (packages / SHARING).write_text(f"{sysconfig.get_path('purelib')}\n")
    same = [f"{name}=={version}" for name, version in _same().items()]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(same) + "\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
    _run([*install, *same, *REQUIREMENTS])
    marker.write_text(json.dumps({**wanted, "finished": True}))
    return python


_WHERE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def _require_peers(folder: Path, python: Path) -> None:
    names = [requirement.partition("==")[0].replace("-", "_") for requirement in REQUIREMENTS]
    code = (
        "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if not u.find_spec(n)])"
    )
    if not python.exists():
        raise DataMismatch(f"{folder} is no virtual environment: name another with --environment")
    missing = _run([str(python), "-c", code, *names]).split()
    if missing:
        raise DataMismatch(
            f"the environment {folder} was not made here and lacks {', '.join(missing)}: install "
            "what is missing, remove it, or name another with --environment"
        )


def _same() -> dict[str, str]:
    """Our releases, without what a build adds to them (`2.9.1+cpu`)."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in SAME}


def _write_stand_in(packages: Path) -> None:
    """An empty module with what pip needs to count it as installed."""
    name, version = STAND_IN
    module, info = packages / name, packages / f"{name}-{version}.dist-info"
    module.mkdir()
    info.mkdir()
    (module / "__init__.py").write_text('"""Stands in for a package that cannot be imported."""\n')
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "INSTALLER").write_text("soundstorm\n")
    files = (f"{name}/__init__.py", *(f"{info.name}/{file}" for file in ("METADATA", "INSTALLER")))
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/RECORD")))


def _run(command: Sequence[str]) -> str:
    """Its standard output.

    Raises:
        StageFailure: with what it said of its failure.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise StageFailure(f"the peers could not be installed ({reason})")
    return done.stdout
