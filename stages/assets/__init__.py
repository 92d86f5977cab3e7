"""The small trained models that ship with the package, by the name `mini`.

`--codec` and `--kmeans` take that name wherever they take a folder, `--model` in `decode` and
`eval`, `--consistency` in `eval`; it is the default of the stages that make tokens.
`docs/models.md` says how each was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

MINI = "mini"

Part = Literal["codec", "kmeans", "soundstorm", "consistency"]


def model_folder(spec: str, part: Part) -> Path:
    """Where a model lies: what ships as that part if `spec` is `mini`, else the folder it names.

    A folder of one's own with that name is `./mini`.
    """
    return Path(__file__).parent / MINI / part if spec == MINI else Path(spec)
