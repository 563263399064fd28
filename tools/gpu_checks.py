"""The checks of ``gpu_check.py``: each takes the device, ``cuda`` or ``cpu``, and returns numbers, skips or fails."""

from __future__ import annotations

import copy
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import engines  # noqa: E402
from step_vs_trl import SHAPES, CheckSum, make_tasks, measure, prepare  # noqa: E402
from stopwatch import machine_speed, now  # noqa: E402

from sr_core.batch import Rollout  # noqa: E402
from sr_core.config import GrpoConfig, OptimConfig, PolicyConfig, SamplingConfig, TrainConfig  # noqa: E402
from sr_core.distributed.process_group import ALONE, Ranks, init_distributed  # noqa: E402
from sr_core.engine import Engine, cuda_graphs  # noqa: E402
from sr_core.engine import flex_attention as flex  # noqa: E402
from sr_core.engine.shared_prompts import SharedPrompts, shared_attention  # noqa: E402
from sr_core.policy import Policy  # noqa: E402
from sr_core.trainer import Trainer  # noqa: E402
from sr_reward.testbed import load_testbed  # noqa: E402

Result = dict[str, Any]
GPU_TESTS = ("test_cuda_graphs.py", "test_flex_attention.py", "test_snapshot.py")
TASKS = load_testbed().train


class Skip(Exception):
    """A check has nothing to run here; its text says why."""


def device_check(device: str) -> Result:
    """What the numbers below were measured on."""
    gflops, copied = machine_speed(device)
    found: Result = {"product_gflops": gflops / 1e9, "copy_gb_s": copied / 1e9, "threads": torch.get_num_threads()}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {"devices": torch.cuda.device_count(), "capability": f"{about.major}.{about.minor}"}
        found |= {"memory_gb": about.total_memory / 1e9, "driver": driver()}
    return found


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def tests_check(device: str) -> Result:
    """The tests that are skipped where there is no GPU."""
    if device == "cpu":
        raise Skip("these tests need a GPU")
    files = [str(ROOT / "packages" / "sr-core" / "tests" / name) for name in GPU_TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-k", "gpu", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-1000:]
    return {"said": last}


class Fixed(Engine):
    """An engine that decodes with fixed shapes, on a CPU too."""

    @property
    def replays_graphs(self) -> bool:
        return True


def graphs_check(device: str) -> Result:
    """Sampling by CUDA graphs beside eager sampling: same tokens, seconds. A CPU decodes the same fixed shapes."""
    if device == "cpu":
        cuda_graphs.record = lambda step: step
    results = {}
    for dtype, policy in policies(device):
        ids = [policy.prompt_ids(task) for task in TASKS[: 16 if device == "cuda" else 2]]
        sampling = SamplingConfig(max_new_tokens=256 if device == "cuda" else 8, temperature=0.7)
        drawn: dict[str, Rollout] = {}
        found: Result = {}
        for name, engine in (("eager", Engine(policy)), ("graphs", Fixed(policy, cuda_graphs=True))):
            for turn in ("first_s", "s"):  # the first records
                began = now(device)
                drawn[name] = engine.sample(ids, 4, sampling, torch.Generator().manual_seed(0))
                found[f"{name}_{turn}"] = now(device) - began
        same = [a == b for a, b in zip(drawn["eager"].tokens, drawn["graphs"].tokens, strict=True)]
        found |= {"same_completions": sum(same) / len(same), "tokens": sum(drawn["graphs"].lengths)}
        results[dtype] = found
        assert dtype != "float32" or all(same), f"float32 completions differ: {found}"
    return results


def flex_check(device: str) -> Result:
    """Flex attention beside the reference mask: states, gradients, seconds. On a CPU uncompiled, states only."""
    if device == "cpu":
        vars(flex)["_attention"] = lambda: flex_attention
    results = {}
    for dtype, policy in policies(device):
        size = 256 if device == "cuda" else 12
        ids = [[(7 * i + j) % 90 + 5 for j in range(size)] for i in range(4)]
        answers = [[(3 * i + j) % 90 + 5 for j in range(size)] for i in range(16)]
        found: Result = {}
        states: dict[str, Tensor] = {}
        grads: dict[str, Tensor] = {}
        decoder = policy.decoder
        for name, kind in (("reference", SharedPrompts), ("flex", flex.FlexPrompts)):
            for turn in ("first_s", "s"):  # the first compiles
                began = now(device)
                batch = kind(ids, answers, [i // 4 for i in range(16)], device=policy.device)
                inputs = dict(batch.inputs)
                read = decoder.get_input_embeddings()(inputs.pop("input_ids")).detach()
                read.requires_grad_(device == "cuda")
                with shared_attention(decoder), torch.set_grad_enabled(device == "cuda"):
                    states[name] = batch.states(decoder(inputs_embeds=read, **inputs).last_hidden_state).float()
                if device == "cuda":
                    weights = torch.linspace(-1, 1, states[name].shape[-1], device=device)
                    (grads[name],) = torch.autograd.grad((states[name] @ weights).sum(), read)
                found[f"{name}_{turn}"] = now(device) - began
        found["states_apart"] = apart(states["flex"], states["reference"])
        if grads:
            found["gradients_apart"] = apart(grads["flex"], grads["reference"])
        results[dtype] = found
        tolerance = 1e-3 if dtype == "float32" else 5e-2
        assert max(found["states_apart"], found.get("gradients_apart", 0)) <= tolerance, found
    return results


def bfloat16_check(device: str) -> Result:
    """The gradient in bfloat16 beside float32's on the same samples, and a step that only master weights can keep."""
    wide = small_policy(device)
    narrow = Policy(copy.deepcopy(wide.model).to(torch.bfloat16), wide.tokenizer, prompt=wide.prompt)
    rollout = Trainer(wide, CheckSum(), train_config()).rollout(TASKS[:4], campaign=0, step=1)
    wide_step, narrow_step = (one_step(Trainer(one, CheckSum(), train_config()), rollout) for one in (wide, narrow))
    error = float((narrow_step["gradient"] - wide_step["gradient"]).norm() / wide_step["gradient"].norm())
    found = {"gradient_error": error, "float32_s": wide_step["s"], "bfloat16_s": narrow_step["s"]}
    for name, step in (("float32", wide_step), ("bfloat16", narrow_step)):
        found[f"{name}_largest_step"] = step["largest"]
        assert 5e-7 < step["largest"] < 2e-6, f"a step at 1e-6 moved a {name} weight by {step['largest']:.3g}"
    assert error < 0.2, f"the bfloat16 gradient is {error:.3f} of its norm away"
    return found


def nccl_check(device: str) -> Result:
    """A step of two processes beside the same step of one, over NCCL; on CPUs over gloo."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        raise Skip(f"NCCL needs two GPUs, here is {torch.cuda.device_count()}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    alone = whole_step(device, ALONE)
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import gpu_checks, pathlib; "
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", f"{code} gpu_checks.rank_step(pathlib.Path({folder!r}), {device!r})"]
        places = [{**os.environ, **where, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        started = [subprocess.Popen(command, env=place, stderr=subprocess.PIPE, text=True) for place in places]
        errors = [process.communicate()[1] for process in started]
        for process, said in zip(started, errors, strict=True):
            assert process.returncode == 0, said.strip().splitlines()[-1]
        first, second = (torch.load(Path(folder) / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first["weights"], second["weights"]), "the two processes have come to different weights"
    error = apart(first["gradient"], alone["gradient"])
    assert error < 1e-4, f"the gradient of two processes is {error:.2g} of its largest entry away"
    return {"gradient_apart": error, "one_s": alone["s"], "two_s": first["s"]}


def rank_step(folder: Path, device: str) -> None:
    """What each of the two processes runs."""
    with init_distributed(device) as ranks:
        torch.save(whole_step(device, ranks), folder / f"{ranks.rank}.pt")


def whole_step(device: str, ranks: Ranks) -> Result:
    """Sampling, grading and an update by all of ``ranks``."""
    trainer = Trainer(small_policy(device), CheckSum(), train_config(), ranks)
    return one_step(trainer, trainer.rollout(TASKS[:4], campaign=0, step=1))


def one_step(trainer: Trainer, rollout: Rollout) -> Result:
    """An update on graded samples: weights after it, the gradient that the optimizer got, the largest change of a
    weight, seconds."""
    device, before = trainer.policy.device.type, flat(trainer)
    gradient: list[Tensor] = []
    hook = trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: gradient.extend(
            p.grad.flatten().float().cpu() for group in optimizer.param_groups for p in group["params"]
        )
    )
    began = now(device)
    trainer.update(trainer.grade(TASKS[: len(rollout.prompts)], rollout))
    seconds = now(device) - began
    hook.remove()
    after = flat(trainer)
    largest = float((after - before).abs().max())
    return {"weights": after, "gradient": torch.cat(gradient), "largest": largest, "s": seconds}


def flat(trainer: Trainer) -> Tensor:
    return torch.cat([weight.flatten().cpu() for weight in trainer.weights().values()])


def train_config() -> TrainConfig:
    sampling = SamplingConfig(prompts=4, group_size=4, max_new_tokens=16)
    return TrainConfig(sampling=sampling, algorithm=GrpoConfig(), optim=OptimConfig(lr=1e-6))


def small_policy(device: str) -> Policy:
    return Policy.load(PolicyConfig(path="pocket-rich", device="cuda" if device == "cuda" else "cpu"))


def policies(device: str) -> Iterator[tuple[str, Policy]]:
    """A shipped policy in float32 and, on a GPU, a random one of 0.5B in bfloat16."""
    yield "float32", small_policy(device)
    if device == "cuda":
        shape = SHAPES["gpu_0.5b"]
        with tempfile.TemporaryDirectory() as folder:
            prepare(shape, Path(folder))
            policy = Policy.load(replace(shape.on_device, path=folder))
        yield "bfloat16", policy


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the largest entry."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def step_check(name: str, side: str) -> Callable[[str], Result]:
    """A shape of ``benchmarks/step_vs_trl.py``: seconds of a step's parts, and the most memory held."""

    def check(device: str) -> Result:
        if SHAPES[name].device != device and name != "testbed":
            raise Skip(f"{name} is the shape of a GPU")
        if side == "trl" and importlib.util.find_spec("trl") is None:
            raise Skip("TRL is not installed (group bench)")
        shape = SHAPES[name]
        if device == "cpu":
            shape = replace(shape, prompts=2, samples=2, new_tokens=4)
        with tempfile.TemporaryDirectory() as folder:
            prepare(shape, Path(folder))
            found = measure(side, shape, Path(folder), 3 if device == "cuda" else 1)
        last: Result = found["steps"][-1]
        return last | {"peak_mb": found["peak_mb"], "tokens_per_s": last["drawn_tokens"] / last["step_s"]}

    return check


def engines_check(device: str) -> Result:
    """The engines that are installed beside our sampling of the same model, after its weights have changed."""
    shape = SHAPES["gpu_0.5b" if device == "cuda" else "testbed"]
    with tempfile.TemporaryDirectory() as folder:
        prepare(shape, Path(folder))
        policy = Policy.load(replace(shape.on_device, path=folder))
        ids = [policy.prompt_ids(task.prompt) for task in make_tasks(shape, policy)[: shape.prompts]]
        work = engines.Work(policy=policy, ids=ids, samples=shape.samples, new_tokens=shape.new_tokens)
        found = engines.measure(work, engines.installed(), rounds=1)
    return {f"{name}_{key}": value for name, numbers in found.items() for key, value in numbers.items()}


CHECKS: dict[str, Callable[[str], Result]] = {
    "device": device_check,
    "tests": tests_check,
    "cuda_graphs": graphs_check,
    "flex_attention": flex_check,
    "bfloat16": bfloat16_check,
    "nccl": nccl_check,
    "step_testbed": step_check("testbed", "ours"),
    **{f"step_{name}": step_check(name, "ours") for name, shape in SHAPES.items() if shape.device == "cuda"},
    "step_gpu_0.5b_trl": step_check("gpu_0.5b", "trl"),
    "engines": engines_check,
}
