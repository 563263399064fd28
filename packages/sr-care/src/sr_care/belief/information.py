"""Evidence about the effect of training, as sums that add up in any order.

Axes: F features, D capabilities. The first ``COMMON`` features are those of every entry; after them comes one for each
task family that was observed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_care.entry import CAPABILITIES, Floats
from sr_care.errors import StoreError

D = len(CAPABILITIES)
COMMON = 2 * (1 + 6 + 2)  # (b, b²) × (1, six numbers of the context, two of the strategy): see ``EffectModel``


@dataclass(frozen=True)
class Information:
    """What N entries say about the weights, in information form.

    ``families``, sorted: those observed, each with a feature of its own, so that no two share one. ``precision``
    (F·D, F·D) = Σ w·φφᵀ ⊗ S and ``vector`` (F·D,) = Σ w·φ ⊗ S·delta, S the precision of the delta's noise, w its
    confidence; ``count`` (D,) the weighted number of entries that measured each capability. ``squares`` =
    Σ deltaᵀ·S·delta over ``observed`` numbers says how far the noise is what it was taken for: what is not trusted to
    move the mean still tells how much campaigns scatter.
    """

    families: tuple[str, ...]
    precision: Floats
    vector: Floats
    count: Floats
    squares: float = 0.0
    observed: float = 0.0

    @classmethod
    def none(cls) -> Information:
        size = COMMON * D
        return cls((), np.zeros((size, size)), np.zeros(size), np.zeros(D))

    def __add__(self, other: Information) -> Information:
        families = tuple(sorted({*self.families, *other.families}))
        a, b = self._of(families), other._of(families)
        return Information(
            families,
            a.precision + b.precision,
            a.vector + b.vector,
            a.count + b.count,
            a.squares + b.squares,
            a.observed + b.observed,
        )

    def weighted(self, weight: float) -> Information:
        """As evidence of so much weight."""
        return replace(self.trusted(weight), squares=weight * self.squares, observed=weight * self.observed)

    def trusted(self, trust: float) -> Information:
        """As evidence of what to expect of so much weight, and of how much campaigns scatter in full."""
        return replace(self, precision=trust * self.precision, vector=trust * self.vector, count=trust * self.count)

    def _of(self, families: Sequence[str]) -> Information:
        """The same evidence with features for ``families``, which include its own."""
        if tuple(families) == self.families:
            return self
        f = COMMON + len(families)
        at = [*range(COMMON), *(COMMON + families.index(name) for name in self.families)]
        precision, vector = np.zeros((f, D, f, D)), np.zeros((f, D))
        precision[np.ix_(at, range(D), at, range(D))] = self.precision.reshape(len(at), D, len(at), D)
        vector[at] = self.vector.reshape(len(at), D)
        return replace(self, families=tuple(families), precision=precision.reshape(f * D, f * D), vector=vector.ravel())

    def to_bytes(self) -> bytes:
        """The families as one line of JSON, then the numbers, little-endian float64."""
        parts = (self.precision, self.vector, self.count, self.squares, self.observed)
        numbers = np.concatenate([np.ravel(part) for part in parts]).astype("<f8").tobytes()
        return json.dumps(self.families).encode() + b"\n" + numbers

    @classmethod
    def from_bytes(cls, data: bytes) -> Information:
        """The inverse of ``to_bytes``. StoreError when the bytes are of another size."""
        head, _, numbers = data.partition(b"\n")
        try:
            families = tuple(json.loads(head))
        except ValueError:
            families = ()
        size = (COMMON + len(families)) * D
        if len(numbers) != 8 * (size * size + size + D + 2):
            raise StoreError(
                f"a summary of {len(families)} task families has the wrong size; the memory file is damaged, "
                "restore a copy"
            )
        flat = np.frombuffer(numbers, dtype="<f8").astype(float)
        precision, vector, count, rest = np.split(flat, np.cumsum([size * size, size, D]))
        return cls(families, precision.reshape(size, size), vector, count, *rest.tolist())
