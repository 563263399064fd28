"""CUDA graphs without CUDA: what is recorded is replayed operation by operation, on the same memory, without Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from gradients import sample
from tiny import make_policy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sr_core.batch import Rollout
from sr_core.engine import Engine, cuda_graphs
from sr_core.engine.cuda_graphs import Recorded
from sr_core.policy import Policy

PROMPTS = ["a:", "abcdefghij:", "ccc:"]
READS_THE_DEVICE = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_unique2", "masked_select")


class Tape(TorchDispatchMode):
    """Every operation and the tensors that it wrote; one that reads a tensor's numbers cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = "index" in str(func) and any(
            isinstance(x, Tensor) and x.dtype == torch.bool for x in tree_leaves(args)
        )
        if masked or any(name in str(func) for name in READS_THE_DEVICE):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, [x for x in tree_leaves(out) if isinstance(x, Tensor)]))
        return out

    def replay(self) -> None:
        for func, args, kwargs, outs in self.calls:
            again = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for out, new in zip(outs, again, strict=True):
                if out.data_ptr() != new.data_ptr():  # neither a view nor written in place
                    out.copy_(new)


def record_on_tape(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    tape = Tape()
    with tape:
        result = step()

    def replay() -> Tensor:
        tape.replay()
        return result

    return replay


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sampling goes through records; the list counts their replays, an entry for each record."""
    replays: list[int] = []

    def record(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        replay, place = record_on_tape(step), len(replays)
        replays.append(0)

        def counted() -> Tensor:
            replays[place] += 1
            return replay()

        return counted

    monkeypatch.setattr(Engine, "replays_graphs", True)
    monkeypatch.setattr(cuda_graphs, "record", record)
    monkeypatch.setattr(cuda_graphs, "FEWEST_BRANCHES", 2)
    monkeypatch.setattr(cuda_graphs, "FEWEST_TOKENS", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield replays


def roll(engine: Engine, seed: int = 0, prompts: list[str] = PROMPTS, tokens: int = 24) -> Rollout:
    rng = torch.Generator().manual_seed(seed)
    ids = [engine.policy.prompt_ids(p) for p in prompts]
    return sample(engine, ids, 6, temperature=0.9, max_new_tokens=tokens, rng=rng)


def assert_same(ours: Rollout, theirs: Rollout) -> None:
    assert ours.tokens == theirs.tokens
    for mine, other in zip(ours.logprobs, theirs.logprobs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_replayed_samples_are_those_of_the_branching_decoding(any_policy: Policy, records: list[int]) -> None:
    engine, other = Engine(any_policy), Engine(any_policy)
    replayed = [roll(engine, seed) for seed in range(3)]
    assert len(records) < sum(records)  # records serve several tokens, and several rollouts
    assert len(engine.recorded.caches) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "replays_graphs", False)
        for seed, ours in enumerate(replayed):
            assert_same(ours, roll(other, seed))
    lengths = [len(t) for rollout in replayed for t in rollout.tokens]
    assert min(lengths) < 5 < 20 < max(lengths)  # branches left the batch, and the longest outgrew the first records


def test_records_follow_the_weights(policy: Policy, records: list[int]) -> None:
    engine = Engine(policy)
    roll(engine)
    made = len(records)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.3)
    trained = roll(engine)
    assert len(records) <= made + 2  # other lengths may need other shapes; the old ones are replayed
    assert_same(trained, roll(Engine(policy)))
    assert trained.tokens != roll(Engine(make_policy())).tokens


def test_weights_at_another_place_are_recorded_anew(policy: Policy, records: list[int]) -> None:
    engine = Engine(policy)
    roll(engine)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.data = parameter * 1.3
    assert_same(roll(engine), roll(Engine(policy)))


def test_the_two_shapes_used_last_are_kept(policy: Policy, records: list[int]) -> None:
    engine = Engine(policy)
    for prompts in (PROMPTS, PROMPTS[:1], PROMPTS, PROMPTS[:1]):
        roll(engine, prompts=prompts)
    made = len(records)
    roll(engine, prompts=PROMPTS)
    assert len(records) == made
    roll(engine, prompts=PROMPTS[:2])
    assert len(engine.recorded.caches) == 2
    roll(engine, prompts=PROMPTS)
    assert len(engine.recorded.caches) == 2


def test_a_policy_that_broke_down_leaves_nothing_behind(policy: Policy, records: list[int]) -> None:
    engine = Engine(policy)
    right = roll(engine)
    with torch.inference_mode():
        for buffers in next(iter(engine.recorded.caches.values())).own.values():
            for buffer in buffers:
                buffer.fill_(float("nan"))  # what a policy with scores that are not finite leaves
    assert_same(roll(engine), right)


def step_of(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value * 2


def test_a_record_that_cannot_be_made_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor([1.0, 2.0])
    recorded = Recorded(step_of(value))
    monkeypatch.setattr(cuda_graphs, "record", _unable)
    with pytest.warns(UserWarning, match=r"without CUDA graphs.*recording failed"):
        assert recorded().tolist() == [2, 4]
    value.fill_(5)
    assert recorded().tolist() == [10, 10]


def _unable(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing")


def test_a_record_that_differs_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor([1.0, 2.0])
    recorded = Recorded(step_of(value))
    monkeypatch.setattr(cuda_graphs, "record", lambda step: lambda: torch.tensor([2.0, 5.0]))
    with pytest.warns(UserWarning, match="the record differs by 1"):
        assert recorded().tolist() == [2, 4]
    value.fill_(5)
    assert recorded().tolist() == [10, 10]


def test_numbers_that_are_not_finite_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor([1.0, float("nan")])
    recorded = Recorded(step_of(value))
    monkeypatch.setattr(cuda_graphs, "record", lambda step: lambda: torch.tensor([7.0, 7.0]))
    assert recorded()[0] == 2
    value.fill_(3.5)
    assert recorded().tolist() == [7, 7]  # recorded, and compared, once they are


def test_the_tape_is_as_strict_as_cuda() -> None:
    value = torch.tensor([1.0, 0.0])
    with pytest.raises(RuntimeError, match="not permitted"):
        record_on_tape(lambda: value[value > 0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_replays_what_it_computes() -> None:
    policy = make_policy()
    policy.model.to("cuda")
    replaying, plain = Engine(policy, cuda_graphs=True), Engine(policy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            assert_same(roll(replaying, seed), roll(plain, seed))
    assert replaying.recorded.caches
