"""Decoding one sample with many settings in turn, each kept as shards of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.ablation.sample import Sample
from stages.ablation.settings import Plan, Setting
from stages.ablation.timing import TimedDecoder, Times, Warmth
from stages.shards.partition import Shard
from stages.shards.runner import run_row_stage
from stages.soundstorm.decoding import DecodeOptions
from stages.soundstorm.model import SoundStormModel
from stages.soundstorm.prompt import Prompt

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What the settings have in common."""

    model: SoundStormModel

    where: str
    """The model's folder, for messages."""

    prompt: Prompt | None

    batch_seconds: float

    seed: int

    machine: dict[str, Any]
    """From `stages.machine.describe`: whose times they are."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What came of it."""

    times: dict[str, Times]
    """By setting."""

    parts_written: int
    """Those that were there already are not among them."""

    failed: int
    """Utterances that could not be decoded, now or in an earlier run."""

    failures: list[tuple[str, str]]
    """Id and reason of each that this run could not decode."""


def decode_settings(
    chosen: Plan,
    sample: Sample,
    folder: Path,
    common: Decoding,
    *,
    force: bool = False,
    advance: Advance = lambda rows: None,
) -> Decoded:
    """Decode the sample with every setting into `folder/NAME/`, as `decode` would.

    Part by part, all settings of a part before the next part and in turned order every other time,
    so that whatever slows the machine down for a while slows all settings down alike. Parts that
    are there, match and were timed are left alone.

    Raises:
        DataMismatch: if the tokens do not fit the model, or a folder holds another set.
        StageFailure: if a folder cannot be written to.
    """
    warmth = Warmth()
    decoders = {setting.name: _decoder(setting, common, warmth) for setting in chosen.settings}
    times = {name: Times(folder / name) for name in decoders}
    written = 0
    failed: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for index in range(sample.parts):
        part = Shard(index, sample.parts)
        (unit,) = sample.work_units(part, sample.num_rows or 0)
        content = unit.fingerprint()
        for name in _in_turn(list(decoders), index):
            decoder = decoders[name]
            fingerprint = decoder.record(input_fingerprint=content).fingerprint
            timed = times[name].has(unit.name, fingerprint)
            decoder.times.clear()
            result = run_row_stage(
                decoder,
                sample,
                output=str(folder / name),
                shard=part,
                force=force or not timed,
                advance=advance,
            )
            failed[name] += result.failed
            failures |= {line["id"]: line["reason"] for line in result.failures}
            if result.shards_written:
                times[name].put(unit.name, fingerprint, decoder.times, common.machine)
                written += 1
    return Decoded(
        times=times,
        parts_written=written,
        failed=max(failed.values()),
        failures=sorted(failures.items()),
    )


def _in_turn(names: Sequence[str], part: int) -> list[str]:
    return list(reversed(names)) if part % 2 else list(names)


def _decoder(setting: Setting, common: Decoding, warmth: Warmth) -> TimedDecoder:
    options = DecodeOptions(
        iterations=setting.iterations,
        temperature=setting.temperature,
        guidance=setting.guidance,
        seed=common.seed,
    )
    return TimedDecoder(
        common.model,
        options,
        where=common.where,
        prompt=common.prompt,
        batch_seconds=common.batch_seconds,
        warmth=warmth,
    )
