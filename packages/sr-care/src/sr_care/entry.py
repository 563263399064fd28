"""What the memory holds: {strategy, context, capability delta, boundary, confidence} and where it came from.

The five parts are the paper's; their fields are our choice, each with its reason. Every class is frozen and
checks itself on creation, so that what reaches the disk is valid.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_care.errors import EntryError, StoreError, check_mapping, check_number, check_text

Floats = NDArray[np.float64]

CAPABILITIES = ("pass1", "pass16", "hard", "ood", "diversity", "well_formed")
"""The capability vector, D = 6: pass@1, pass@16, pass@1 on the hard tier and out of distribution, share of
unique answers, share of well-formed answers. All are shares in [0, 1], so deltas lie in [-1, 1]."""

_INDEX = {name: position for position, name in enumerate(CAPABILITIES)}
_LOWER = np.tril_indices(len(CAPABILITIES))
_PACKED = struct.Struct(f"<{len(CAPABILITIES) + len(_LOWER[0])}d")


def check_capability(name: str) -> int:
    """The position of a capability in the vector; EntryError with the known names for any other."""
    if name not in _INDEX:
        raise EntryError(f"a capability must be one of {', '.join(CAPABILITIES)}, got {name!r}")
    return _INDEX[name]


def _settle(instance: object, **checked: Any) -> None:
    """Put checked values into the fields of a frozen instance."""
    for name, value in checked.items():
        object.__setattr__(instance, name, value)


def _pick(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The items of ``values`` that are fields of ``cls``: the trainer may know more than is remembered."""
    return {f.name: values[f.name] for f in fields(cls) if f.name in values}


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What was done. ``steps`` are gradient steps executed, ``penalty`` the coefficient of a KL or EWC term.

    ``algorithm`` is lower-cased, so that equal strategies compare equal.
    """

    algorithm: str
    lr: float
    steps: int
    group_size: int | None = None
    prompts: int | None = None
    penalty: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.algorithm, str) or not self.algorithm.strip():
            raise EntryError(f"strategy.algorithm must be a name such as 'reinforce', got {self.algorithm!r}")
        check_text("strategy.algorithm", self.algorithm)
        _settle(
            self,
            algorithm=self.algorithm.strip().lower(),
            lr=check_number("strategy.lr", self.lr, 0, above=True),
            steps=check_number("strategy.steps", self.steps, 0, whole=True),
            group_size=check_number("strategy.group_size", self.group_size, 1, optional=True, whole=True),
            prompts=check_number("strategy.prompts", self.prompts, 1, optional=True, whole=True),
            penalty=check_number("strategy.penalty", self.penalty, 0, optional=True),
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Strategy:
        """Read the known keys and ignore the rest. Missing ``algorithm``, ``lr`` or ``steps``: EntryError."""
        values = check_mapping("the strategy", values)
        missing = [name for name in ("algorithm", "lr", "steps") if values.get(name) is None]
        if missing:
            raise EntryError(f"a strategy needs algorithm, lr and steps, got none for {', '.join(missing)}")
        return cls(**_pick(cls, values))


@dataclass(frozen=True, kw_only=True)
class Context:
    """What was known before: everything may be None (not measured).

    Shares (``pass1``, ``passk``, ``positive_rate`` = share of rewarded samples, ``unique_share``) lie in [0,
    1]; ``entropy`` is in nats per token; ``model_parameters`` is a count.
    """

    family: str | None = None
    model_parameters: float | None = None
    pass1: float | None = None
    passk: float | None = None
    positive_rate: float | None = None
    entropy: float | None = None
    unique_share: float | None = None

    def __post_init__(self) -> None:
        if self.family not in (None, ""):
            check_text("context.family", self.family)
        _settle(
            self,
            model_parameters=check_number(
                "context.model_parameters", self.model_parameters, 0, optional=True, above=True
            ),
            entropy=check_number("context.entropy", self.entropy, 0, optional=True),
            **{
                name: check_number(f"context.{name}", getattr(self, name), 0, 1, optional=True)
                for name in ("pass1", "passk", "positive_rate", "unique_share")
            },
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Context:
        """Read the known keys (``task_family`` is taken for ``family``) and ignore the rest."""
        values = check_mapping("the context", values)
        family = values.get("family")
        return cls(**{**_pick(cls, values), "family": values.get("task_family") if family is None else family})


@dataclass(frozen=True, kw_only=True)
class CapabilityDelta:
    """After minus before, of the capabilities that were measured, with the covariance of the measurement
    error.

    ``covariance``: rows in the order of ``values``, an array or nested sequences, kept as tuples. It must be positive
    semi-definite, and symmetric up to rounding, which is then taken off.
    """

    values: Mapping[str, float]
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        values = {
            name: check_number(f"delta.{name}", value, -1, 1)
            for name, value in check_mapping("delta.values", self.values).items()
            if check_capability(name) >= 0
        }
        if not values:
            raise EntryError("a delta needs at least one measured capability, got none")
        try:
            matrix = np.asarray(self.covariance, dtype=float)
        except (OverflowError, TypeError, ValueError):  # texts, None, rows of different lengths
            matrix = np.full(0, np.nan)
        if matrix.shape != (len(values),) * 2 or not np.isfinite(matrix).all():
            raise EntryError(
                f"delta.covariance must be {len(values)} × {len(values)} finite numbers, got {self.covariance!r}"
            )
        scale = max(float(np.abs(matrix).max()), 1e-300)
        if np.abs(matrix - matrix.T).max() > 1e-9 * scale:
            raise EntryError(f"delta.covariance must be symmetric, got {self.covariance!r}")
        lowest = float(matrix[0, 0]) if len(matrix) == 1 else float(np.linalg.eigvalsh(matrix)[0])
        if lowest < -1e-9 * scale:
            raise EntryError(f"delta.covariance must have no negative eigenvalue, got {lowest:.3g}")
        # only the lower triangle is stored: what is read back must equal what was written
        _settle(self, values=values, covariance=tuple(map(tuple, ((matrix + matrix.T) / 2).tolist())))

    @classmethod
    def from_errors(cls, values: Mapping[str, float], errors: Mapping[str, float]) -> CapabilityDelta:
        """From independent standard errors of the deltas, one per measured capability."""
        values, errors = check_mapping("delta.values", values), check_mapping("the standard errors", errors)
        se = {name: check_number(f"the standard error of {name}", errors.get(name), 0) for name in values}
        rows = tuple(tuple(se[a] ** 2 if a == b else 0.0 for b in values) for a in values)
        return cls(values=values, covariance=rows)

    def vector(self) -> Floats:
        """The delta as (D,), NaN where not measured."""
        vector = np.full(len(CAPABILITIES), np.nan)
        for name, value in self.values.items():
            vector[_INDEX[name]] = value
        return vector

    def matrix(self) -> Floats:
        """The covariance as (D, D), zero where not measured."""
        matrix = np.zeros((len(CAPABILITIES),) * 2)
        places = [_INDEX[name] for name in self.values]
        matrix[np.ix_(places, places)] = self.covariance
        return matrix

    def to_bytes(self) -> bytes:
        """D values, then the lower triangle of the covariance by rows, as little-endian float64 (216
        bytes)."""
        # plain floats and struct: a tenth of the time that small arrays take, and this is most of a write
        places = [_INDEX[name] for name in self.values]
        flat = [math.nan] * len(CAPABILITIES) + [0.0] * len(_LOWER[0])
        for place, value, row in zip(places, self.values.values(), self.covariance, strict=True):
            flat[place] = value
            for other, covariance in zip(places, row, strict=True):
                if other <= place:
                    flat[len(CAPABILITIES) + place * (place + 1) // 2 + other] = covariance
        return _PACKED.pack(*flat)

    @classmethod
    def from_bytes(cls, data: bytes) -> CapabilityDelta:
        vectors, matrices = unpack_deltas([data])
        places = [i for i, value in enumerate(vectors[0]) if not math.isnan(value)]
        return cls(
            values={CAPABILITIES[i]: float(vectors[0][i]) for i in places},
            covariance=tuple(tuple(float(matrices[0][i, j]) for j in places) for i in places),
        )


def unpack_deltas(blobs: list[bytes]) -> tuple[Floats, Floats]:
    """``to_bytes`` of N deltas back as values (N, D) with NaN where not measured, and covariances (N, D,
    D)."""
    size = len(CAPABILITIES)
    if any(len(blob) != _PACKED.size for blob in blobs):
        raise StoreError(f"a stored delta must have {_PACKED.size} bytes; the file is damaged, restore a copy")
    flat = np.frombuffer(b"".join(blobs), dtype="<f8").reshape(len(blobs), size + len(_LOWER[0]))
    matrices = np.zeros((len(blobs), size, size))
    matrices[:, _LOWER[0], _LOWER[1]] = flat[:, size:]
    matrices[:, _LOWER[1], _LOWER[0]] = flat[:, size:]
    return flat[:, :size].astype(float), matrices


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """How far the effect held: held-out pass@1 at ``start``, at its ``peak`` (after ``peak_step`` steps), at
    the ``end``, and of the policy ``kept``. Beyond ``peak_step`` the strategy was seen to do harm, if end <
    peak."""

    start: float | None = None
    peak: float | None = None
    peak_step: int | None = None
    end: float | None = None
    kept: float | None = None

    def __post_init__(self) -> None:
        _settle(
            self,
            peak_step=check_number("boundary.peak_step", self.peak_step, 0, optional=True, whole=True),
            **{
                name: check_number(f"boundary.{name}", getattr(self, name), 0, 1, optional=True)
                for name in ("start", "peak", "end", "kept")
            },
        )

    @property
    def ratio(self) -> float | None:
        """End over peak, the quantity of the paper's deployed gate; 1 when nothing ever rose above zero."""
        if self.peak is None or self.end is None:
            return None
        return self.end / self.peak if self.peak > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One campaign remembered.

    ``confidence`` in (0, 1] multiplies the entry's weight in every belief (1: taken at its measured word).
    ``run`` and ``campaign`` identify it. ``start_from``: the campaign whose kept policy it started from
    (-1: the policy that the run began with), None for the one before it. ``recorded_at`` (UTC, ISO) is provenance:
    no decision reads it; the memory fills it in. ``id`` is the memory's number for it, 0 before it is written.
    """

    strategy: Strategy
    context: Context
    delta: CapabilityDelta
    boundary: Boundary = field(default_factory=Boundary)
    confidence: float = 1.0
    run: str
    campaign: int
    seed: int | None = None
    start_from: int | None = None
    recorded_at: str = ""
    id: int = 0

    def __post_init__(self) -> None:
        check_text("entry.run", self.run)
        for name, kind in (("strategy", Strategy), ("context", Context), ("delta", CapabilityDelta)):
            if not isinstance(getattr(self, name), kind):
                raise EntryError(f"entry.{name} must be a {kind.__name__}, got {getattr(self, name)!r}")
        campaign = check_number("entry.campaign", self.campaign, 0, whole=True)
        _settle(
            self,
            campaign=campaign,
            confidence=check_number("entry.confidence", self.confidence, 0, 1, above=True),
            seed=check_number("entry.seed", self.seed, optional=True, whole=True),
            start_from=check_number("entry.start_from", self.start_from, -1, campaign - 1, optional=True, whole=True),
            id=check_number("entry.id", self.id, 0, whole=True),
        )
        if self.recorded_at != "":
            check_text("entry.recorded_at", self.recorded_at)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Entry:
        """The inverse of ``to_dict``. EntryError when a part is missing or wrong."""
        try:
            delta = check_mapping("entry.delta", values["delta"])
            parts = {
                "strategy": Strategy.from_mapping(values["strategy"]),
                "context": Context.from_mapping(values["context"]),
                "delta": CapabilityDelta(values=delta["values"], covariance=delta["covariance"]),
                "boundary": Boundary(**check_mapping("entry.boundary", values.get("boundary"))),
            }
            return cls(**{**_pick(cls, values), **parts})
        except (AttributeError, KeyError, TypeError) as error:
            raise EntryError(f"an entry needs the parts that Entry.to_dict writes, got {error}") from None
