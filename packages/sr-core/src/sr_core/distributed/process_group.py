"""The processes of one run: which part of the work is whose, and what all of them know together.

A launcher (``accelerate launch``, ``torchrun``) starts the same command several times; ``init_distributed`` connects
them. Every process has all weights and sees all samples and verdicts of a step; sampling, grading and backward passes
are shared out, and gradients are summed. In a run of one process everything here is the identity, so callers never ask
how many there are. Methods that exchange something are collective: all processes call the same ones in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sr_core.errors import CoreError, ElsewhereError, RankError

__all__ = ["ALONE", "Ranks", "init_distributed"]

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # a process that died is noticed at once; this is for one that hangs
BUCKET_BYTES = 64 << 20  # gradients travel in pieces of about this size


class Ranks:
    """Process ``rank`` of ``count``; the first one is 0."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """This process's part of ``count`` things: consecutive ones, in the order of the ranks, as many for each."""
        return range(count * self.rank // self.count, count * (self.rank + 1) // self.count)

    def balance(self, items: Sequence[T], weights: Sequence[float]) -> list[T]:
        """This process's part of ``items`` of these ``weights``: each goes to whoever has least, the heaviest first."""
        loads = [0.0] * self.count
        mine: list[int] = []
        for i in sorted(range(len(items)), key=lambda i: -weights[i]):
            least = loads.index(min(loads))
            loads[least] += weights[i]
            if least == self.rank:
                mine.append(i)
        return [items[i] for i in sorted(mine)]

    def gather(self, items: Sequence[T]) -> list[T]:
        """The ``items`` of all processes, in the order of the ranks. They travel pickled, tensors in host memory."""
        if self.count == 1:
            return list(items)
        parts: list[Any] = [None] * self.count
        with exchanging():
            dist.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def broadcast(self, value: T) -> T:
        """What the first process has for ``value``."""
        if self.count == 1:
            return value
        box = [value]
        with exchanging():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def assert_equal(self, what: str, value: object) -> None:
        """Raise RankError unless all processes have come to an equal ``value``."""
        values = self.gather([value])
        if any(other != values[0] for other in values):
            raise RankError(
                f"all processes of a run must come to the same {what}, got {', '.join(map(repr, values))}: "
                "start them on machines of one kind with the same versions"
            )

    def total(self, *numbers: float) -> list[float]:
        """Each of ``numbers`` summed over all processes, the same to the last bit on all of them."""
        return [sum(column) for column in zip(*self.gather([numbers]), strict=True)]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum each of ``tensors`` over all processes, in place; bfloat16 ones in float32."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            wide = torch.promote_types(bucket[0].dtype, torch.float32)
            flat = torch.cat([t.flatten().to(wide) for t in bucket])
            with exchanging():
                dist.all_reduce(flat)
            for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    @contextmanager
    def sync_errors(self) -> Iterator[None]:
        """What fails inside for one process fails for all, so that none waits for one that has gone another way.

        All enter and leave it. An error of this package is raised as it is everywhere; of another one the others raise
        ElsewhereError.
        """
        try:
            yield
        except RankError:
            raise
        except Exception as error:
            self.gather([error if isinstance(error, CoreError) else ElsewhereError(f"process {self.rank}: {error!r}")])
            raise
        for failure in self.gather([None]):
            if failure is not None:
                raise failure


ALONE = Ranks()


@contextmanager
def init_distributed(device: str = "auto") -> Iterator[Ranks]:
    """All processes that a launcher started with this one, as long as it lasts; one alone where none did.

    ``device`` as in ``policy.device``: on CUDA every process takes the GPU of its local rank. Raises RankError when the
    others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with exchanging():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def exchanging() -> Iterator[None]:
    """What torch says inside when a process is lost becomes a RankError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        place = f"process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}"
        why = str(error).split(". ")[0].splitlines()[0]
        raise RankError(
            f"every process of a run must stay until its end, and {place} has lost the others ({why}): "
            "see what they said, then continue from the last checkpoint with sr resume"
        ) from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, in lists of about ``BUCKET_BYTES``."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        size = sum(t.nbytes for t in bucket)
        if bucket and (tensor.dtype != bucket[0].dtype or size + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
