import sys

import numpy as np
import pytest

from sr_care import CapabilityDelta, CapabilityMemory, CareError, Context, Entry, Strategy, ask
from sr_care.errors import EntryError
from sr_care.figures import draw_posterior

STRATEGY = Strategy(algorithm="grpo", lr=1e-3, steps=20)
CONTEXT = Context(family="numbers", pass1=0.3, model_parameters=1.1e6)


def filled(path):
    random = np.random.default_rng(0)
    memory = CapabilityMemory(path)
    memory.append_many(
        Entry(
            strategy=Strategy(algorithm="grpo", lr=1e-3, steps=int(random.integers(5, 30))),
            context=CONTEXT,
            delta=CapabilityDelta.from_errors({"pass1": float(random.normal(0.1, 0.05))}, {"pass1": 0.03}),
            run="r",
            campaign=k,
        )
        for k in range(20)
    )
    return memory


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_belief_is_drawn_in_the_format_of_the_name(tmp_path, suffix, start):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"belief.{suffix}"
    with filled(tmp_path / "m.db") as memory:
        draw_posterior(memory.recall(), STRATEGY, CONTEXT, path, entries=list(memory.entries()))
    assert path.read_bytes().startswith(start)


def test_without_matplotlib_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with filled(tmp_path / "m.db") as memory, pytest.raises(CareError, match="pip install matplotlib"):
        draw_posterior(memory.recall(), STRATEGY, CONTEXT, tmp_path / "belief.png")


def test_an_unknown_capability_is_refused_before_anything_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    with filled(tmp_path / "m.db") as memory, pytest.raises(EntryError, match="pass1, pass16"):
        draw_posterior(memory.recall(), STRATEGY, CONTEXT, tmp_path / "belief.png", capability="speed")
    assert not (tmp_path / "belief.png").exists()


@pytest.mark.parametrize("name", ["belief", "belief.xyz"])
def test_a_picture_of_an_unknown_format_is_refused(tmp_path, name):
    pytest.importorskip("matplotlib")
    with filled(tmp_path / "m.db") as memory, pytest.raises(CareError, match=r"ends in one of .*png"):
        draw_posterior(memory.recall(), STRATEGY, CONTEXT, tmp_path / name)


def test_the_memory_alone_answers_and_names_its_grounds(tmp_path):
    with filled(tmp_path / "m.db") as memory:
        decision = ask(memory, STRATEGY, CONTEXT)
        expected = memory.recall().predict([STRATEGY], CONTEXT).mean[0, 0]
        ids = [entry.id for entry in memory.entries()]
    assert decision.action == "reuse"
    assert decision.outlook.gain == pytest.approx(expected)
    assert len(decision.entries) == 5
    assert set(decision.entries) <= set(ids)
