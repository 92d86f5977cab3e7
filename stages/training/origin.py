"""The model whose weights a run starts from: a run that has a checkpoint needs it no more."""

from __future__ import annotations

from pathlib import Path

from stages.errors import DataMismatch
from stages.nn.model_file import CONFIG_NAME, load_model_file


def fingerprint_of(folder: Path) -> str:
    """SHA-256 hex of the model in a folder.

    Raises:
        DataMismatch: if it is no model folder.
    """
    return load_model_file(folder).fingerprint


def require_same_origin(folder: Path, saved: str | None, *, run: str) -> None:
    """Refuse to go on with a run that did not start from the model in `folder`.

    Args:
        folder: that model's; one that holds none any more is not asked.
        saved: the fingerprint that the checkpoint has: empty of a run that started from no model,
            None where it does not say.
        run: the run's folder, for messages.

    Raises:
        DataMismatch: if the run started from another model, or from none.
    """
    if saved is None or not (folder / CONFIG_NAME).exists():
        return
    if saved != fingerprint_of(folder):
        what = "from another model than" if saved else "without --init, not from"
        raise DataMismatch(
            f"{run} was started {what} {folder}: leave out --init to go on with it, or use "
            "another -o"
        )
