"""A picture of a belief. Needs matplotlib: the extra ``sr-care[figures]``; nothing else in the package
does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sr_care.belief.effects import query_rows, to_rows
from sr_care.belief.posterior import Posterior
from sr_care.entry import CAPABILITIES, Context, Entry, Strategy, check_capability
from sr_care.errors import CareError


def draw_posterior(
    posterior: Posterior,
    strategy: Strategy,
    context: Context,
    path: str | Path,
    *,
    capability: str = "pass1",
    entries: Sequence[Entry] = (),
) -> None:
    """Write a picture of the expected change of ``capability`` over the number of steps of ``strategy``: the
    mean, the 50% and 90% intervals, and the measured deltas of ``entries``, each at the steps of this
    learning rate that make its dose. The format follows the suffix of ``path``. CareError without
    matplotlib, and for a format that it does not write."""
    try:
        from matplotlib.figure import Figure  # no pyplot: no window system, no global state
    except ImportError:
        raise CareError("a picture needs matplotlib, which is not installed: pip install matplotlib") from None
    place = check_capability(capability)
    most = max(2 * strategy.steps, 10)
    steps = np.unique(np.linspace(0, most, 61).astype(int))
    prediction = posterior.predict([replace(strategy, steps=int(s)) for s in steps], context)
    level = context.pass1 if capability == "pass1" else None
    floor, roof = (-1.0, 1.0) if level is None else (-level, 1 - level)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in formats:
        raise CareError(f"a picture needs a name that ends in one of {', '.join(sorted(formats))}, got {str(path)!r}")
    axes = figure.subplots()
    for z, share, alpha in ((1.645, "90%", 0.15), (0.6745, "50%", 0.35)):
        low, high = (np.clip(end[:, place], floor, roof) for end in prediction.interval(z))
        axes.fill_between(steps, 100 * low, 100 * high, color="C0", alpha=alpha, lw=0, label=f"{share} interval")
    axes.plot(steps, 100 * np.clip(prediction.mean[:, place], floor, roof), color="C0", label="expected")
    seen = [entry for entry in entries if capability in entry.delta.values]
    if seen:
        dose = float(posterior.model.dose(query_rows([replace(strategy, steps=1)], context))[0])
        at = posterior.model.dose(to_rows(seen)) / dose
        deltas = np.array([100 * entry.delta.values[capability] for entry in seen])
        errors = np.array([100 * np.sqrt(entry.delta.matrix()[place, place]) for entry in seen])
        near = at <= most
        axes.errorbar(
            at[near], deltas[near], errors[near], fmt="o", ms=4, color="0.3", lw=1, label="remembered (± 1 s.e.)"
        )
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axvline(strategy.steps, color="0.6", lw=0.8, ls=":")
    axes.set_xlabel(f"gradient steps of {strategy.algorithm} at learning rate {strategy.lr:g}")
    axes.set_ylabel(f"change of {capability} (points)")
    count = posterior.count[CAPABILITIES.index(capability)]
    axes.set_title(f"What {count:,.0f} remembered campaigns say", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
