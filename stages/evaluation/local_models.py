"""Models of other people's packages, given by a name to download or by where they are."""

from __future__ import annotations

from pathlib import Path


def means_a_path(given: str) -> bool:
    """Whether a name can only be a path: one that is none would be looked for far away."""
    return Path(given).is_absolute() or given.startswith((".", "~")) or given.count("/") > 1


def reason_of(error: Exception) -> str:
    """What a hub, a disk or a package said, in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
