"""The comparison with peers: what it asks of both sides and what it says of them; never how fast.

What needs the peers installed skips where their environment is not: `make bench-peers` makes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers import environment
from benchmarks.peers.__main__ import main, write
from benchmarks.peers.cells import OWN_VARIANTS, TRAIN_PRECISIONS, Cell, Choice, cells, theirs
from benchmarks.peers.environment import make_environment
from benchmarks.peers.measure import OURS, ROOT, THEIRS, Limits, Side, interleave, ours, run_once
from benchmarks.peers.ours import audiolm, soundstorm
from benchmarks.peers.report import Report, markdown, measured
from benchmarks.peers.sizes import Shape, shape_of
from stages.errors import DataMismatch, StageFailure
from stages.soundstorm.masking import draw_mask
from stages.soundstorm.schedule import masked_after
from stages.training.presets import preset

SHAPE = Shape(
    layers=2, heads=2, width=16, feed_forward=32, levels=3, coarse_levels=1, codebook_size=11,
    semantic_size=7,
).to_json()  # fmt: skip
BOTH = (
    Side(name="ours", python=Path("a"), module="m", spec={}),
    Side(name="peer", python=Path("b"), module="n", spec={}),
)
CELL = Cell(kind="decode", what="a decoding", size="tiny", sides=BOTH, same="codes")

PEER = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"
needs_peer = pytest.mark.skipif(not PEER.exists(), reason=f"the peers are not installed: no {PEER}")


def result(seconds: float, peak: int = 2**30, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "peak_bytes": peak, "imported_bytes": 2**29, **more}


def test_sizes_are_the_presets() -> None:
    shape = shape_of("soundstorm", "350m")
    network = preset("soundstorm", "350m").network
    assert {name: getattr(shape, name) for name in network if name != "dropout"} == {
        name: value for name, value in network.items() if name != "dropout"
    }
    assert shape_of("audiolm-fine", "mini").semantic_size == 4096
    with pytest.raises(DataMismatch, match="no size huge"):
        shape_of("soundstorm", "huge")


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [(100.0, 3), (6.5, 2), (0.1, 1)],  # a round takes 3 s: two end by 6, a third by 9
)
def test_sides_take_turns_within_the_budget(budget: float, rounds: int) -> None:
    order: list[str] = []
    now = [0.0]

    def run(side: Side, threads: int) -> dict[str, Any]:
        assert threads == 2
        order.append(side.name)
        now[0] += 1.0 if side.name == "ours" else 2.0
        return result(float(len(order)))

    limits = Limits(threads=2, repeats=3, budget=budget)
    found = interleave(BOTH, limits, run=run, clock=lambda: now[0])
    assert order == ["ours", "peer"] * rounds
    assert [run["seconds"] for run in found["peer"]] == [2.0, 4.0, 6.0][:rounds]


def test_a_cell_is_told_as_it_was() -> None:
    runs = {
        "ours": [result(2.0, codes="x", masked=[5, 4]), result(1.0), result(4.0)],
        "peer": [result(9.0, peak=2 * 2**30, codes="x", parameters=12_000_000), result(7.0)],
    }
    cell = measured(CELL, runs, load=0.25)
    assert cell.ratio("peer") == 4.0
    assert cell.agreed() is True
    told = cell.to_json()
    ours_told, peer_told = told["sides"]["ours"], told["sides"]["peer"]
    assert (ours_told["seconds"], ours_told["fastest"], ours_told["slowest"]) == (2.0, 1.0, 4.0)
    assert (ours_told["runs"], peer_told["runs"], told["ratios"]) == (3, 2, {"peer": 4.0})
    report = Report(
        machine={"processor": "a processor", "torch": "2"}, versions={"peer": "1"},
        limits=Limits(threads=2), cells=[cell], failures=["a training step: it ended"],
    )  # fmt: skip
    text = markdown(report)
    assert "| tiny | a decoding | ours |  | 2 s | 1 to 4 | 3 |  | 1.00 | 0.50 |" in text
    assert "|  |  | peer | 12.0 M | 8 s | 7 to 9 | 2 | 4 | 2.00 | 0.50 |" in text
    assert "so many masks: 5 4." in text
    assert "every one" in text
    assert "**Not measured:** a training step: it ended" in text
    runs["peer"][0]["codes"] = "y"
    differing = replace(report, cells=[measured(CELL, runs, load=0.25)])
    assert "**The tokens differ.**" in markdown(differing)


def test_a_peer_is_held_against_each_variant() -> None:
    sides = (*BOTH, ours("decode", variant="int8"))
    runs = {"ours": [result(2.0)], "peer": [result(8.0)], "ours, int8": [result(0.5)]}
    cell = measured(replace(CELL, sides=sides, same=None), runs, load=0.0)
    assert cell.times_variants() == {("peer", "ours, int8"): 16.0}
    report = Report(
        machine={"processor": "a processor", "torch": "2"}, versions={"peer": "1"},
        limits=Limits(threads=2), cells=[cell],
    )  # fmt: skip
    assert "tiny, a decoding: peer takes 16 times as long as ours, int8." in markdown(report)


def test_stray_output_is_kept_from_the_result() -> None:
    code = (
        "import sys; from benchmarks.peers.probe import serve\n"
        "def job(spec):\n    print('stray'); return {'twice': 2 * spec['number']}\n"
        "sys.exit(serve({'job': job}, sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, '{"job": "job", "number": 4}'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told.pop("peak_bytes") > 1_000_000
    assert told == {"twice": 8}
    assert done.stderr == "stray\n"


@pytest.mark.parametrize(
    ("module", "without"),
    [
        (THEIRS, ("stages", "torch", "numpy")),  # its environment has nothing of ours
        # A child's peak memory begins with its parent's.
        ("benchmarks.peers", ("torch", "numpy", "pyarrow", "matplotlib")),
    ],
)
def test_what_a_process_starts_with(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {module}.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(without) & set(done.stdout.split())


def test_a_run_that_fails_says_why() -> None:
    with pytest.raises(StageFailure, match=r"ours ended with 1: KeyError: 'no such job'"):
        run_once(ours("no such job"), threads=1)


def test_our_decoding_sees_the_schedule() -> None:
    found = soundstorm.decode({"threads": 1, "shape": SHAPE, "frames": 40})
    first = [masked_after(40, turn - 1, 16) for turn in range(16)]
    assert found["masked"] == [*first, 40, 40]
    assert found["passes"] == 18
    assert found["seconds"] > 0


@pytest.mark.parametrize("name", OWN_VARIANTS)
def test_our_decoding_has_variants(name: str) -> None:
    shape = {**SHAPE, "levels": 12}
    spec = {"threads": 1, "shape": shape, "frames": 40}
    plain, found = soundstorm.decode(spec), soundstorm.decode({**spec, **OWN_VARIANTS[name]})
    assert found["passes"] == (12 if "greedy" in name else 27)
    assert found["parameters"] == plain["parameters"]


@pytest.mark.parametrize("precision", TRAIN_PRECISIONS)
def test_our_training_step(precision: str) -> None:
    spec = {
        "threads": 1, "shape": SHAPE, "batch": 2, "frames": 12, "steps": 2, "precision": precision,
    }  # fmt: skip
    found = soundstorm.train(spec)
    assert found["steps"] == 2
    assert found["seconds"] > 0


def test_our_training_step_is_of_a_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    acoustic = torch.randint(11, (2, 12, 3), generator=generator)
    semantic = torch.randint(7, (2, 12), generator=generator)
    mask = draw_mask(torch.tensor([12, 12]), 3, generator)
    losses = {}
    for precision in TRAIN_PRECISIONS:
        network = soundstorm.build(SHAPE).train()
        optimiser = torch.optim.AdamW(network.parameters())
        losses[precision] = soundstorm.step(
            network, optimiser, acoustic, semantic, mask, precision=precision
        )
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-2)


@pytest.mark.parametrize(("stage", "levels"), [(audiolm.coarse, 1), (audiolm.fine, 2)])
def test_our_audiolm_counts_every_token_but_the_first(
    stage: Callable[[Any], dict[str, Any]], levels: int
) -> None:
    found = stage({"threads": 1, "shape": SHAPE, "frames": 9, "made": 4})
    assert found["tokens"] == 4 * levels - 1
    assert found["first_seconds"] > 0


def test_cells_ask_the_same_of_both() -> None:
    choice = Choice(
        only=["decode"], sizes=["small", "350m"], frames=[500, 1500],
        variants=["matched", "as-it-comes"], own_variants=[],
        train_precisions=["float32", "bfloat16"], speech=Path("speech"),
    )  # fmt: skip
    peer = Path("peer/bin/python")
    for kind, count in (("decode", 4), ("train", 4), ("audiolm", 4)):
        made = list(cells(kind, choice, peer, Path("work"), lambda side: {}))
        assert len(made) == count
        for cell in made:
            first, *others = cell.sides
            assert (first.name, first.module, first.python) == ("ours", OURS, Path(sys.executable))
            for side in others:
                assert (side.module, side.python) == (THEIRS, peer)
                same = {name: value for name, value in side.spec.items() if name != "variant"}
                assert same == first.spec


def test_variants_of_ours_are_of_decoding_alone() -> None:
    choice = Choice(
        only=["decode"], sizes=["small"], frames=[500], variants=["matched"],
        own_variants=["int8"], train_precisions=["float32"], speech=Path("speech"),
    )  # fmt: skip
    for kind, names in (("decode", ["ours, int8"]), ("train", [])):
        (cell,) = cells(kind, choice, Path("peer"), Path("work"), lambda side: {})
        plain, _, *own = cell.sides
        assert [side.name for side in own] == names
        assert all(dict(side.spec) == {**plain.spec, "precision": "int8"} for side in own)


def test_only_its_own_environment_is_made_anew(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(command: Any) -> str:
        raise AssertionError(command)

    monkeypatch.setattr(environment, "_run", refuse)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataMismatch, match="no virtual environment"):
        make_environment(tmp_path / "other", share=True, tell=lambda text: None)
    made = tmp_path / "made"
    (made / "bin").mkdir(parents=True)
    wanted = {
        "requirements": list(environment.REQUIREMENTS), "same": environment._same(),
        "shared": True, "finished": True,
    }  # fmt: skip
    (made / environment.MARKER).write_text(json.dumps(wanted))
    assert make_environment(made, share=True, tell=print) == made / "bin" / "python"
    # Another torch, or an install that was cut off: it begins anew.
    with pytest.raises(AssertionError, match="venv"):
        make_environment(made, share=False, tell=lambda text: None)


def test_an_environment_without_the_peers_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(DataMismatch, match=r"lacks soundstorm_pytorch, audiolm_pytorch"):
        make_environment(tmp_path, share=True, tell=lambda text: None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "decode,nothing"], ["--sizes", "huge"], ["--frames", "1"], ["--frames", "a"],
        ["--variants", "other"], ["--train-precisions", "int8"], ["--train", "a"],
        ["--speech", "nowhere"], ["--codec", "mini"], ["--codec", "mini", "--kmeans", "mini"],
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], tmp_path: Path, capsys: Any) -> None:
    environment_of_none = ["--environment", str(tmp_path / "none")]
    assert main([*arguments, *environment_of_none, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "none").exists()


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = {
        "nats": [2.0, 1.0], "accuracy": [0.1, 0.2], "all_nats": 1.5, "all_accuracy": 0.15,
        "tokens": [10, 10], "seconds": 3.0, "peak_bytes": 2**30, "training_loss": [3.0],
    }  # fmt: skip
    report = Report(
        machine={"processor": "a processor", "torch": "2"},
        versions={"peer": "1"},
        limits=Limits(threads=2),
        cells=[measured(CELL, {"ours": [result(1.0)], "peer": [result(3.0)]}, load=0.0)],
        learned={
            "steps": 4, "batch": 2, "window": 30, "train_frames": 90, "valid_rows": 3,
            "frequencies": [2.5, 1.5], "models": {"ours": model, "peer": model},
        },
    )  # fmt: skip
    written = write(report, tmp_path / "new")
    assert [path.name for path in written] == ["peers.json", "peers.md", "peers.png"]
    assert json.loads(written[0].read_text())["learned"]["frequencies"] == [2.5, 1.5]
    assert "| all | 1.500 (15.0) | 1.500 (15.0) | 2.000 | 20 |" in written[1].read_text()
    assert written[2].stat().st_size > 0


@needs_peer
def test_the_peer_decodes_in_as_many_passes() -> None:
    spec = {"shape": SHAPE, "frames": 40, "variant": "matched"}
    found = run_once(theirs(PEER, "peer", "decode", **spec), threads=1)
    assert found["passes"] == 18
    assert found["masked"][0] == 40


@needs_peer
@pytest.mark.parametrize(("stage", "levels"), [("coarse", 1), ("fine", 2)])
def test_the_peers_audiolm_makes_as_many_tokens(stage: str, levels: int) -> None:
    spec = {"shape": SHAPE, "frames": 9, "made": 4}
    found = run_once(theirs(PEER, "peer", stage, **spec), threads=1)
    assert found["tokens"] == 4 * levels - 1
