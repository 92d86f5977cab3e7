"""The small trained models that ship with the package, by the name `mini`.

`--codec` and `--kmeans` take that name wherever they take a folder, `--encoder` in
`tokenize-semantic` and `fit-kmeans`, `--model` in `decode`, `generate-semantic` and `eval`,
`--coarse` and `--fine` in `decode`, `--consistency` in `eval`, `--vocoder` wherever there is one,
`--init` in `train`; it is the default of the stages that make tokens. `docs/models.md` says how
each was made.
"""

from __future__ import annotations

from pathlib import Path

from stages.errors import DataMismatch

MINI = "mini"

INSIDE = {"source-filter": "codec/vocoder"}
"""Parts that lie inside others, which find them there."""


def model_folder(spec: str, part: str) -> Path:
    """Where a model lies: what ships as that part if `spec` is `mini`, else the folder it names.

    A folder of one's own with that name is `./mini`.

    Args:
        spec: what the user wrote.
        part: `kmeans`, or a model as `train --model` calls it.

    Raises:
        DataMismatch: if `spec` is `mini` and no such part ships.
    """
    if spec != MINI:
        return Path(spec)
    family = Path(__file__).parent / MINI
    folder = family / INSIDE.get(part, part)
    if not folder.exists():
        ships = ", ".join(sorted(path.name for path in family.glob("*")))
        raise DataMismatch(
            f"no {part} ships as {MINI} ({ships} do): name the folder of one, or ./{MINI} if it is "
            "called so"
        )
    return folder
