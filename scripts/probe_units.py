"""Two quick probes of semantic tokens: how well they tell the text, and how well the speaker.

python scripts/probe_units.py TRAIN VALID [--epochs 15] [--seed 0] [--json]

Text: a small CTC network from units to characters, trained on TRAIN's rows that have text; its
character error rate on VALID's is low where units keep what is said. Speaker: multinomial logistic
regression on an utterance's unit histogram; its accuracy is near chance where units forget who
says it. Good semantic tokens score low in both. The speaker probe sees words and room too, which
go with the speaker in most corpora, and in no order: it says what is easy to read off, not what is
there.

Probing frozen representations with small supervised models is Alain and Bengio's idea
(*Understanding intermediate layers using linear classifier probes*, 2016), done for speech in
SUPERB (Yang et al., 2021); CTC is Graves et al. (2006). Square roots of frequencies make the
Euclidean distance of histograms Hellinger's.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import DataMismatch, SoundStormError
from stages.evaluation.statistics import Estimate, ratio_estimate
from stages.shards.reader import open_rows
from stages.shards.rows import Row, row_problem

if TYPE_CHECKING:
    from stages.shards.source import RowSource
    from stages.shards.spec import TokenSpec

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = 0
"""CTC's class; character i of the alphabet is class i + 1."""

WIDTH, LAYERS, KERNEL = 160, 3, 5
DROPOUT = 0.2
OUTPUTS_PER_SECOND = 25
"""At least so many, however few units there are: English is read at some 15 characters a second."""

EPOCHS = 15
BATCH = 8
PEAK_RATE = 3e-3

HISTOGRAM_L2 = 1e-3
"""Times half the squared weights, beside the mean cross-entropy."""

LEAST_UTTERANCES = 8
LEAST_UTTERANCES_TO_SPLIT = 10
HOLD_OUT_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class TextResult:
    """What the text probe found."""

    cer: Estimate
    characters: int
    train_rows: int

    too_short: int
    """Training rows left out: fewer outputs than CTC needs for their text."""


@dataclass(frozen=True, kw_only=True)
class SpeakerResult:
    """What the speaker probe found."""

    accuracy: Estimate

    chance: float
    """The share of the judged rows that the most frequent speaker among them has."""

    speakers: int
    train_rows: int

    judged: str
    """`validation`, or `held out` where that has too few speakers and training rows were split."""


def normalise(text: str | None) -> str:
    """Lower case, accents off, single spaces, and nothing outside the alphabet."""
    plain = unicodedata.normalize("NFKD", (text or "").replace("’", "'")).lower()
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join("".join(c if c in ALPHABET else " " for c in letters).split())


class UnitReader(nn.Module):
    """Units `[B, T]` to log-probabilities `[B, T * outputs, classes]` through a few convolutions.

    What it makes of an utterance does not depend on the padding after it.
    """

    def __init__(self, units: int, *, outputs: int) -> None:
        """`outputs` is how many characters a unit may stand for."""
        super().__init__()
        self.classes = len(ALPHABET) + 1
        self.embed = nn.Embedding(units, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.layers = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2) for _ in range(LAYERS)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.classify = nn.Linear(WIDTH, outputs * self.classes)

    def forward(self, units: Tensor, lengths: Tensor) -> Tensor:
        there = (torch.arange(units.shape[1])[None] < lengths[:, None])[..., None]  # [B, T, 1]
        hidden = self.dropout(self.embed(units))  # [B, T, D]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            mixed = layer((norm(hidden) * there).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + self.dropout(torch.relu(mixed))
        logits: Tensor = self.classify(hidden)
        return logits.view(len(units), -1, self.classes).log_softmax(-1)


@dataclass(frozen=True)
class Sample:
    """An utterance as the text probe sees it."""

    units: Tensor
    text: str

    @property
    def targets(self) -> list[int]:
        return [ALPHABET.index(letter) + 1 for letter in self.text]

    @property
    def needs(self) -> int:
        """Outputs below which CTC cannot say the text: a blank parts equal neighbours."""
        return len(self.text) + sum(map(str.__eq__, self.text, self.text[1:]))


def samples_of(rows: Sequence[Row]) -> list[Sample]:
    """The rows that have units and text."""
    texts = [normalise(row.get("text")) for row in rows]
    return [
        Sample(torch.from_numpy(np.asarray(row["semantic"], np.int64)), text)
        for row, text in zip(rows, texts, strict=True)
        if text and has_units(row)
    ]


def has_units(row: Row) -> bool:
    """Whether a row has a token at all."""
    return row.get("semantic") is not None and len(row["semantic"]) > 0


def probe_text(
    train: Sequence[Row],
    valid: Sequence[Row],
    *,
    units: int,
    rate: Fraction,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> TextResult:
    """Train the CTC network on some rows and read the others.

    Raises:
        DataMismatch: if there is no text to learn from, or none to judge by.
    """
    outputs = math.ceil(OUTPUTS_PER_SECOND / rate)
    known, judged = samples_of(train), samples_of(valid)
    fitting = [sample for sample in known if sample.needs <= outputs * len(sample.units)]
    for name, samples in (("training", fitting), ("validation", judged)):
        if not samples:
            raise DataMismatch(
                f"no row of the {name} set has both units and a text (`text`) that they can tell: "
                "make its tokens from a manifest with transcripts"
            )
    try:
        import jiwer
    except ImportError:
        raise DataMismatch(
            "the text probe counts errors with jiwer: install soundstorm with its extra `eval`"
        ) from None
    torch.manual_seed(seed)
    reader = UnitReader(units, outputs=outputs)
    fit(reader, fitting, outputs=outputs, epochs=epochs)
    errors = []
    for sample, read in zip(judged, read_greedily(reader, judged, outputs=outputs), strict=True):
        counts = jiwer.process_characters(sample.text, read)
        errors.append(counts.substitutions + counts.deletions + counts.insertions)
    said = np.array([len(sample.text) for sample in judged], np.float64)
    cer = ratio_estimate(np.array(errors, np.float64), said)
    assert cer is not None  # every text has a character
    return TextResult(
        cer=cer,
        characters=int(said.sum()),
        train_rows=len(fitting),
        too_short=len(known) - len(fitting),
    )


def fit(reader: UnitReader, samples: Sequence[Sample], *, outputs: int, epochs: int) -> None:
    """Train for a fixed number of epochs; only the last state counts, so nothing is selected."""
    steps = epochs * math.ceil(len(samples) / BATCH)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=steps + 1, pct_start=0.15
    )
    reader.train()
    for epoch in range(epochs):
        losses = []
        for batch in shuffled_batches(samples):
            units, lengths = padded(batch)
            targets = torch.tensor([label for sample in batch for label in sample.targets])
            sizes = torch.tensor([len(sample.text) for sample in batch])
            scores = reader(units, lengths).transpose(0, 1)
            loss = nn.functional.ctc_loss(scores, targets, lengths * outputs, sizes, blank=BLANK)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}", file=sys.stderr)


def shuffled_batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Batches of about equal lengths, in a random order; torch's seed decides it."""
    jitter = 0.9 + 0.2 * torch.rand(len(samples))
    order = sorted(range(len(samples)), key=lambda i: len(samples[i].units) * float(jitter[i]))
    starts = range(0, len(order), BATCH)
    for index in torch.randperm(len(starts)).tolist():
        yield [samples[i] for i in order[starts[index] : starts[index] + BATCH]]


def padded(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Units `[B, T]` and their counts `[B]`."""
    lengths = torch.tensor([len(sample.units) for sample in samples])
    units = nn.utils.rnn.pad_sequence([sample.units for sample in samples], batch_first=True)
    return units, lengths


def read_greedily(reader: UnitReader, samples: Sequence[Sample], *, outputs: int) -> Iterator[str]:
    """The likeliest class at every output, repeats and blanks taken out."""
    reader.eval()
    for start in range(0, len(samples), BATCH):
        units, lengths = padded(samples[start : start + BATCH])
        with torch.inference_mode():
            best = reader(units, lengths).argmax(-1)
        for row, length in zip(best, lengths.tolist(), strict=True):
            classes = torch.unique_consecutive(row[: length * outputs]).tolist()
            letters = "".join(ALPHABET[label - 1] for label in classes if label != BLANK)
            yield " ".join(letters.split())


def probe_speakers(
    train: Sequence[Row],
    valid: Sequence[Row],
    *,
    units: int,
    least_utterances: int = LEAST_UTTERANCES,
) -> SpeakerResult | None:
    """Tell speakers by unit histograms; None where there are not two of them to tell apart."""
    train, valid = ([row for row in rows if is_spoken(row)] for rows in (train, valid))
    counts = Counter(row["speaker"] for row in train)
    heard = {row["speaker"] for row in valid}
    names = sorted(name for name in heard if counts[name] >= least_utterances)
    judged_set = "validation"
    if len(names) < 2:
        names = sorted(name for name in counts if counts[name] >= LEAST_UTTERANCES_TO_SPLIT)
        judged_set = "held out"
        train, valid = hold_out(train)
    if len(names) < 2:
        return None
    number = {name: index for index, name in enumerate(names)}
    known, judged = ([row for row in rows if row["speaker"] in number] for rows in (train, valid))
    answers = torch.tensor([number[row["speaker"]] for row in judged])
    weights, bias = fit_logistic(
        histograms(known, units), torch.tensor([number[row["speaker"]] for row in known])
    )
    guesses = (histograms(judged, units) @ weights + bias).argmax(1)
    right = (guesses == answers).double().numpy()
    accuracy = ratio_estimate(right, np.ones_like(right))
    assert accuracy is not None
    return SpeakerResult(
        accuracy=accuracy,
        chance=float(answers.bincount().max()) / len(answers),
        speakers=len(names),
        train_rows=len(known),
        judged=judged_set,
    )


def is_spoken(row: Row) -> bool:
    """Whether a row has units and says whose."""
    return bool(row.get("speaker")) and has_units(row)


def hold_out(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split off every fifth utterance of each speaker."""
    kept: list[Row] = []
    held: list[Row] = []
    seen: Counter[str] = Counter()
    for row in rows:
        seen[row["speaker"]] += 1
        (kept if seen[row["speaker"]] % HOLD_OUT_EVERY else held).append(row)
    return kept, held


def histograms(rows: Sequence[Row], units: int) -> Tensor:
    """Square roots of each row's relative frequencies of units, `[rows, units]` of length 1."""
    counted = np.stack([np.bincount(row["semantic"], minlength=units) for row in rows])
    return torch.from_numpy(np.sqrt(counted / counted.sum(1, keepdims=True)))


def fit_logistic(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `[F, classes]` and bias `[classes]`; the problem is convex and starts at zero."""
    classes = int(labels.max()) + 1
    weights = torch.zeros(features.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(features @ weights + bias, labels)
        loss = loss + HISTOGRAM_L2 / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def read_set(source: RowSource) -> tuple[list[Row], TokenSpec]:
    """A set's rows and what its tokens are.

    Raises:
        DataMismatch: if it lacks tokens or texts, or a token is past its codebook.
    """
    spec = source.provenance.require_tokens("semantic", where=source.where)
    source.require_columns("semantic", "text")
    wanted = ("id", "speaker", "text", "semantic")
    rows = list(source.rows([name for name in wanted if name in source.schema.names]))
    for row in rows:
        if problem := row_problem(row, source.provenance):
            raise DataMismatch(f"{source.where}, row {row['id']}: {problem}")
    return rows, spec


def probe(given: argparse.Namespace) -> dict[str, Any]:
    """Read both sets and run both probes; the result as JSON values."""
    started = time.monotonic()
    with open_rows(given.train) as train_source, open_rows(given.valid) as valid_source:
        train, spec = read_set(train_source)
        valid, valid_spec = read_set(valid_source)
    valid_spec.require_same(spec, ours=given.valid, theirs=given.train)
    if shared := {row["id"] for row in train} & {row["id"] for row in valid}:
        raise DataMismatch(
            f"{given.train} and {given.valid} share {len(shared)} rows ({min(shared)}): a probe "
            "must be judged on rows that it has not learnt"
        )
    speaker = probe_speakers(
        train, valid, units=spec.codebook_size, least_utterances=given.least_utterances
    )
    text = probe_text(
        train,
        valid,
        units=spec.codebook_size,
        rate=spec.frame_rate,
        epochs=given.epochs,
        seed=given.seed,
    )
    return {
        "tokens": spec.name,
        "units": spec.codebook_size,
        "frame_rate": float(spec.frame_rate),
        "epochs": given.epochs,
        "seed": given.seed,
        "text": asdict(text),
        "speaker": asdict(speaker) if speaker else None,
        "seconds": round(time.monotonic() - started, 1),
    }


def describe(result: dict[str, Any]) -> str:
    """The result for people: a line for each probe."""
    text, speaker = result["text"], result["speaker"]
    lines = [
        f"{result['tokens']}: {result['units']} units, {result['frame_rate']:g} a second",
        f"text: CER {percent(text['cer'])}, {text['cer']['utterances']} utterances of "
        f"{text['characters']} characters, learnt from {text['train_rows']}"
        + (f" ({text['too_short']} too short for their text)" if text["too_short"] else ""),
    ]
    if speaker is None:
        lines.append("speaker: not probed, since no two speakers have utterances enough")
    else:
        lines.append(
            f"speaker: accuracy {percent(speaker['accuracy'])}, chance "
            f"{100 * speaker['chance']:.1f} %, {speaker['speakers']} speakers, "
            f"{speaker['accuracy']['utterances']} {speaker['judged']} rows, learnt from "
            f"{speaker['train_rows']}"
        )
    return "\n".join([*lines, f"{result['seconds']} seconds"])


def percent(value: dict[str, Any]) -> str:
    """An estimate with its interval, where it has one."""
    if value["low"] is None:
        return f"{100 * value['value']:.1f} %"
    return f"{100 * value['value']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, probe, and print; exits with 2 on data that does not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", help="token shards with semantic tokens and text, to learn from")
    parser.add_argument("valid", help="token shards of the same tokens, to judge on")
    parser.add_argument("--epochs", type=positive, default=EPOCHS, help="of the text probe")
    parser.add_argument("--seed", type=int, default=0, help="of the text probe")
    parser.add_argument(
        "--least-utterances",
        type=positive,
        default=LEAST_UTTERANCES,
        help="training utterances that a speaker needs to be probed",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    given = parser.parse_args(arguments)
    try:
        result = probe(given)
    except SoundStormError as error:
        print(f"probe_units: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps(result) if given.json else describe(result))


if __name__ == "__main__":
    main()
