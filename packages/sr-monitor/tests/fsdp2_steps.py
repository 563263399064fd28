"""Run on every process: trains a sharded policy and a whole one with the callback, on the same rows at the same rate.

The first process writes the steps of both, and how far their weights end apart, to the file it is given.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from test_step_size_callback import texts, tiny_model
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sr_monitor.integrations.step_size import StepSizeCallback


def train(model: Any, rows: torch.Tensor, lr: float, steps: int = 4) -> list[dict[str, float]]:
    callback = StepSizeCallback()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    state, control = SimpleNamespace(global_step=0, stateful_callbacks={}), SimpleNamespace()
    given: dict[str, Any] = {"model": model, "optimizer": optimizer, "lr_scheduler": None}
    callback.on_train_begin(SimpleNamespace(), state, control, **given)  # type: ignore[arg-type]
    model.train()
    for step in range(steps):
        model(input_ids=rows, labels=rows).loss.backward()
        for parameter in model.parameters():
            if not isinstance(parameter, DTensor):
                torch.distributed.all_reduce(parameter.grad, torch.distributed.ReduceOp.AVG)
        callback.on_pre_optimizer_step(SimpleNamespace(), state, control, **given)  # type: ignore[arg-type]
        optimizer.step()
        callback.on_optimizer_step(SimpleNamespace(), state, control, **given)  # type: ignore[arg-type]
        optimizer.zero_grad()
        state.global_step = step + 1
    return callback.steps


def main(out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    rows = torch.tensor([row["input_ids"] for row in texts()[8 * rank : 8 * rank + 8]])
    made: dict[str, Any] = {}
    whole = tiny_model()
    made["whole"] = train(whole, rows, 0.1)
    for name, reshards in {"resharded": True, "kept whole after a forward pass": False}.items():
        model = tiny_model()
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (int(os.environ["WORLD_SIZE"]),))
        fully_shard(model.model.layers[0], mesh=mesh, reshard_after_forward=reshards)
        fully_shard(model, mesh=mesh, reshard_after_forward=reshards)
        made[name] = train(model, rows, 0.1)
        pairs = zip(model.parameters(), whole.parameters(), strict=True)
        made[f"{name}, apart"] = max(float((p.full_tensor() - q).detach().abs().max()) for p, q in pairs)
    if rank == 0:
        Path(out).write_text(json.dumps(made))
    torch.distributed.barrier()
    os._exit(0)  # the threads of gloo may keep a process that has finished


main(sys.argv[1])
