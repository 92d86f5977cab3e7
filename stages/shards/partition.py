"""Which part of the work is ours, and what each part's file is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stages.errors import DataMismatch

Item = TypeVar("Item")
_PART = re.compile(r"part-(\d{5,})-of-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Shard:
    """Job `index` of `count`, 0-based, as an array job numbers its tasks."""

    index: int
    count: int

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """`items[index::count]`; the caller sorts them."""
        return items[self.index :: self.count]


WHOLE = Shard(0, 1)


def parse_shard(text: str) -> Shard:
    """Read `i/n`.

    Raises:
        DataMismatch: unless 0 <= i < n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise DataMismatch(f"--shard {text} is not i/n with 0 <= i < n, such as 0/8 or 7/8")
    return Shard(int(match[1]), int(match[2]))


def part_name(index: int, count: int) -> str:
    """`part-00003-of-00064.parquet`."""
    return f"part-{index:05d}-of-{count:05d}.parquet"


def parse_part_name(name: str) -> tuple[int, int] | None:
    """Index and count of a part's file name, or None for any other name."""
    match = _PART.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None
