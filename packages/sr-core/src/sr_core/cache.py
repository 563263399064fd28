"""A key-value cache with room for the tokens to come: a step writes one token instead of copying all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

__all__ = ["roomy_cache"]


def roomy_cache(layers: int, room: int) -> Cache:
    """A cache of ``layers`` layers that holds a prompt and ``room`` more tokens without moving."""
    return Cache(layers=[_RoomyLayer(room) for _ in range(layers)])


class _RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """Keys and values (N x heads x length x size) at the front of buffers that are ``room`` longer.

    Layers with a sliding window keep their whole history, too: the mask hides what lies outside the window.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append; returns all keys and values so far, as views."""
        del args, kwargs
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.keys, self.values = self._buffer(key_states, end), self._buffer(value_states, end)
            self.is_initialized = True
        assert end <= self.keys.shape[-2], "the cache was made for fewer tokens"
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _buffer(self, like: Tensor, used: int) -> Tensor:
        return like.new_empty((like.shape[0], like.shape[1], used + self.room, like.shape[-1]))

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.length

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence ``repeats`` times."""
        self._pick(torch.arange(self.keys.shape[0], device=self.keys.device).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the sequences ``indices``."""
        self._pick(indices)

    def _pick(self, indices: Tensor) -> None:
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            if len(indices) > old.shape[0]:
                new = old.new_empty((len(indices), *old.shape[1:]))
            else:
                new = old[: len(indices)]  # the freed memory is reused: fresh pages cost more than the copy
            new[:, :, : self.length] = old[:, :, : self.length][indices]
            setattr(self, name, new)
