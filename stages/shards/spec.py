"""What a column of tokens is: enough to say whether two sets of tokens fit together."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from stages.errors import DataMismatch

TokenKind = Literal["semantic", "acoustic"]
MAX_CODEBOOK_SIZE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """Identity and geometry of semantic or acoustic tokens."""

    kind: TokenKind

    name: str
    """What the user called their maker: `lyra`, `wav2vec2_base:7+kmeans`."""

    fingerprint: str
    """SHA-256 hex of all that decides a token: encoder, layer and k-means; or codec weights."""

    frame_rate: Fraction
    """Frames a second, exact."""

    codebook_size: int
    """Tokens lie in `[0, codebook_size)`."""

    levels: int = 1
    """Q of acoustic tokens; not part of the identity, since coarse levels stand alone."""

    def __post_init__(self) -> None:
        if not 1 <= self.codebook_size <= MAX_CODEBOOK_SIZE:
            raise DataMismatch(
                f"a codebook of {self.codebook_size} entries does not fit uint16 tokens: use "
                f"between 1 and {MAX_CODEBOOK_SIZE}"
            )
        if self.levels < 1 or self.frame_rate <= 0:
            raise DataMismatch(f"{self.kind} tokens need at least one level and a positive rate")

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values; the rate stays an exact `"75/1"`."""
        return {
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "frame_rate": f"{self.frame_rate.numerator}/{self.frame_rate.denominator}",
            "codebook_size": self.codebook_size,
            "levels": self.levels,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> TokenSpec:
        """Read what `to_json` wrote.

        Raises:
            DataMismatch: if a field is missing or malformed.
        """
        try:
            return TokenSpec(
                kind=value["kind"],
                name=str(value["name"]),
                fingerprint=str(value["fingerprint"]),
                frame_rate=Fraction(value["frame_rate"]),
                codebook_size=int(value["codebook_size"]),
                levels=int(value["levels"]),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DataMismatch(f"token metadata is malformed ({error}): make it again") from None

    def require_same(self, other: TokenSpec, *, ours: str, theirs: str) -> None:
        """Refuse tokens that another encoder, k-means or codec made, or of another geometry.

        Args:
            other: the tokens to compare with.
            ours: where this spec is from, for the message.
            theirs: where `other` is from.

        Raises:
            DataMismatch: naming the first thing that differs.
        """
        for what, mine, yours in (
            ("kind", self.kind, other.kind),
            ("frame rate", f"{self.frame_rate} Hz", f"{other.frame_rate} Hz"),
            ("codebook size", self.codebook_size, other.codebook_size),
            (
                "maker",
                f"{self.name} {self.fingerprint[:12]}",
                f"{other.name} {other.fingerprint[:12]}",
            ),
        ):
            same = self.fingerprint == other.fingerprint if what == "maker" else mine == yours
            if not same:
                raise DataMismatch(
                    f"the {self.kind} tokens of {ours} and {theirs} do not fit: their {what} is "
                    f"{mine} and {yours}"
                )
