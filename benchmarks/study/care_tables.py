"""What CARE's planners decided in the study, and what their modules brought: tables in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sr_cli.studies import config_of
from sr_core.studies.records import Record
from sr_core.studies.spec import StudySpec
from sr_monitor import paired_bootstrap
from sr_monitor.analysis.study import end
from sr_monitor.report.study import difference, points

Chains = Mapping[str, Mapping[int, Record]]
REFERENCES = ("naive", "care_v1", "care_v2", "care_v3")
ACTIONS = ("reuse", "adapt", "pilot", "reject")


def tables(spec: StudySpec, arms: Chains) -> str:
    """The planners among the ``arms`` of a regime, best first; nothing where there is none."""
    regime = next(iter(spec.regimes))
    planned = [name for name in arms if config_of(spec, regime, name).planner.name == "care"]
    planned.sort(key=lambda name: -np.mean([end(record) for record in arms[name].values()]))
    if not planned:
        return ""
    return "\n".join(
        "\n".join(part) + "\n" for part in (_modules(spec, arms, planned), _decisions(spec, arms, planned))
    )


def _modules(spec: StudySpec, arms: Chains, planned: list[str]) -> Iterator[str]:
    yield "### What the modules of CARE bring\n"
    yield "End of chain with paired differences over the seeds that both have; what a campaign was allowed, of all"
    yield "campaigns; mean gradient steps of a chain\n"
    yield f"| arm | end | seeds | over {' | over '.join(spec.label(name) for name in REFERENCES)} | steps | decisions |"
    yield f"|---|---|---|{'---|' * len(REFERENCES)}---|---|"
    for name in planned:
        chains = arms[name]
        counted = Counter(plan["action"] for record in chains.values() for plan in _plans(record))
        cells = [
            spec.label(name),
            points(float(np.mean([end(record) for record in chains.values()]))),
            str(len(chains)),
            *("" if other == name else _over(chains, arms.get(other, {})) for other in REFERENCES),
            f"{np.mean([sum(c['steps'] for c in r['summary']['campaigns']) for r in chains.values()]):.0f}",
            ", ".join(f"{counted[action]} {action}" for action in ACTIONS if counted[action]),
        ]
        yield f"| {' | '.join(cells)} |"


def _over(chains: Mapping[int, Record], others: Mapping[int, Record]) -> str:
    shared = sorted(chains.keys() & others.keys())
    if not shared:
        return "–"
    found = paired_bootstrap([end(chains[seed]) for seed in shared], [end(others[seed]) for seed in shared])
    return difference([found.estimate, found.low, found.high, len(shared)])


def _decisions(spec: StudySpec, arms: Chains, planned: list[str]) -> Iterator[str]:
    yield "Decisions, campaign by campaign: **r**euse, **a**dapt, **p**ilot, **x** reject, the gradient steps, the"
    yield "learning rate where it is not the regime's (× of it), and @k where it started from the policy that campaign"
    yield "k kept, not from the last one. Then the audited pass@1 at the end\n"
    yield "| arm | seed | decisions | end |"
    yield "|---|---|---|---|"
    for name in planned:
        for seed, record in arms[name].items():
            text = " ".join(_short(plan, record["config"]["optim"]["lr"]) for plan in _plans(record))
            yield f"| {spec.label(name)} | {seed} | {text} | {points(end(record))} |"


def _plans(record: Record) -> list[dict[str, Any]]:
    return [campaign["plan"] for campaign in record["summary"]["campaigns"]]


def _short(plan: Mapping[str, Any], lr: float) -> str:
    letter = "x" if plan["action"] == "reject" else plan["action"][0]
    factor = plan["lr"] / lr
    rate = "" if abs(factor - 1) < 1e-6 or not plan["steps"] else f"×{factor:.2g}"
    earlier = "" if plan["start_from"] == "kept" else f"@{plan['start_from']}"
    return f"{letter}{plan['steps']}{rate}{earlier}"
