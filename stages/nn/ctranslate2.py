"""Reading the weights of a model in CTranslate2's format, to have them in torch."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.errors import DataMismatch

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's numbers of its types; its bfloat16 (5) is no type of numpy's."""

_SCALE = "_scale"
"""Ends the name of what an int8 matrix was multiplied by, row by row."""


def read_ctranslate2(path: Path, *, prefix: str) -> dict[str, Tensor]:
    """The variables of a `model.bin` whose names begin with `prefix`, as float32.

    Int8 matrices are scaled back to what they stand for.

    Raises:
        DataMismatch: if the file is none of CTranslate2's, or has types of other sizes.
    """
    try:
        with path.open("rb") as file:
            found = dict(_variables(file, prefix))
    except FileNotFoundError:
        raise DataMismatch(
            f"{path.parent} has no {path.name}: it is no CTranslate2 model"
        ) from None
    except (OSError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise DataMismatch(
            f"{path} cannot be read as a CTranslate2 model of float32, float16 or int8 ({error})"
        ) from error
    tensors = {}
    for name, value in found.items():
        if name.endswith(_SCALE):
            continue
        tensor = torch.from_numpy(value.astype(np.float32))
        if name + _SCALE in found:
            tensor /= torch.from_numpy(found[name + _SCALE].astype(np.float32))[:, None]
        tensors[name] = tensor
    return tensors


def _variables(file: BinaryIO, prefix: str) -> list[tuple[str, NDArray[Any]]]:
    """Version, name and revision of the format, then name, shape, type and bytes of each."""
    _integer(file)
    _text(file)
    _integer(file)
    found = []
    for _ in range(_integer(file)):
        name = _text(file)
        shape = [_integer(file) for _ in range(file.read(1)[0])]
        kind = _TYPES[file.read(1)[0]]
        data = file.read(_integer(file))
        if name.startswith(prefix):
            if len(data) != prod(shape) * np.dtype(kind).itemsize:
                raise ValueError(f"{name} is cut short")
            found.append((name, np.frombuffer(data, kind).reshape(shape)))
    return found


def _integer(file: BinaryIO) -> int:
    (value,) = struct.unpack("<I", file.read(4))
    return int(value)


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length).rstrip(b"\0").decode()
