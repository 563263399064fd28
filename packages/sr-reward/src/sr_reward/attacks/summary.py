"""Findings of the attack suite, counted: as JSON, and as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sr_reward.attacks.suite import Finding


def strongest(findings: Sequence[Finding]) -> str:
    """The strongest level that was available."""
    return next(iter(findings[0].contained))


def breaches_at(findings: Sequence[Finding], level: str) -> list[str]:
    """The attacks that ``level`` did not contain, as ``group: name``."""
    return [_name(finding) for finding in findings if not finding.contained[level]]


def as_json_object(findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts by level, and every finding."""
    level = strongest(findings)
    return {
        "isolation": level,
        "attacks": len(findings),
        "contained": {each: sum(f.contained[each] for f in findings) for each in findings[0].contained},
        "controls": sum(f.control for f in findings),
        "breaches": breaches_at(findings, level),
        "findings": [
            {"group": f.attack.group, "name": f.attack.name, "control": f.control, "contained": f.contained}
            for f in findings
        ],
    }


def table_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A row for each group of attacks and one for all, then what was not contained and what proves nothing."""
    levels = list(findings[0].contained)
    yield f"{'contained at':<30}{'attacks':>8}" + "".join(f"{level:>10}" for level in levels) + f"{'controls':>10}"
    groups = {group: [f for f in findings if f.attack.group == group] for group in _groups(findings)}
    for name, some in (*groups.items(), ("all", findings)):
        cells = "".join(f"{sum(f.contained[level] for f in some):>10}" for level in levels)
        yield f"{name:<30}{len(some):>8}{cells}{sum(f.control for f in some):>10}"
    for level in levels:
        if through := breaches_at(findings, level):
            yield f"not contained at {level}: {'; '.join(through)}"
    if unproven := [_name(finding) for finding in findings if not finding.control]:
        yield f"control did not succeed here (so nothing is proven): {'; '.join(unproven)}"


def _groups(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.attack.group for finding in findings))


def _name(finding: Finding) -> str:
    return f"{finding.attack.group}: {finding.attack.name}"
