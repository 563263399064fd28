"""``sr sandbox``: check which isolation is available here, or run the attack suite."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from sr_cli.console import Progress, print_json
from sr_reward.sandbox.check import Feature, check_isolation, strongest_level


@click.group()
def command() -> None:
    """Check which isolation is available here, or run the attack suite.

    Example: sr sandbox check
    """


@command.command(epilog="Example: sr sandbox check --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(as_json: bool) -> int:
    """Show each part of the isolation, whether it is available here, and what to do where it is not."""
    features = check_isolation()
    level = strongest_level()
    if as_json:
        rows = [{"name": f.name, "available": f.available, "found": f.found, "advice": f.advice} for f in features]
        print_json({"isolation": level, "verdicts_safe": level != "limits", "features": rows})
        return 0
    for feature in features:
        click.echo(_line(feature))
    unsafe = " (keeps no verdict safe; training refuses it by default)" if level == "limits" else ""
    click.echo(f"isolation level here: {level}{unsafe}")
    return 0


def _line(feature: Feature) -> str:
    mark = "yes" if feature.available else "NO "
    advice = f"\n{'':6}→ {feature.advice}" if not feature.available else ""
    return f"  {mark} {feature.name:<22} {feature.found}{advice}"


@command.command(epilog="Example: sr sandbox attack --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--group", default=None, help="Only attacks whose group's name holds this text.")
def attack(as_json: bool, group: str | None) -> int:
    """Run the attack suite, each attack with its positive control. Exit code 1 if the strongest level available
    here does not contain one."""
    from sr_reward.attacks import ATTACKS, run_suite

    chosen = [each for each in ATTACKS if group is None or group in each.group]
    if not chosen:
        names = ", ".join(sorted({each.group for each in ATTACKS}))
        raise click.UsageError(f"--group must be part of a group's name, got {group!r}; the groups are {names}")
    progress = Progress(len(chosen), what="attacks run")
    findings = run_suite(chosen, progress=lambda done: progress.step())
    levels = list(findings[0].contained)
    level = levels[0]  # the strongest available
    breaches = [f for f in findings if not f.contained[level]]
    if as_json:
        result: dict[str, Any] = {
            "isolation": level,
            "attacks": len(findings),
            "contained": {each: sum(f.contained[each] for f in findings) for each in levels},
            "controls": sum(f.control for f in findings),
            "breaches": [f"{f.attack.group}: {f.attack.name}" for f in breaches],
            "findings": [
                {"group": f.attack.group, "name": f.attack.name, "control": f.control, "contained": f.contained}
                for f in findings
            ],
        }
        print_json(result)
    else:
        _show(findings, levels)
    for finding in breaches:
        click.echo(f"sr: breach at level {level}: {finding.attack.group}: {finding.attack.name}", err=True)
    return 1 if breaches else 0


def _show(findings: Sequence[Any], levels: Sequence[str]) -> None:
    groups = Counter(finding.attack.group for finding in findings)
    click.echo(
        f"{'contained at':<30}{'attacks':>8}" + "".join(f"{level:>10}" for level in levels) + f"{'controls':>10}"
    )
    for group, count in groups.items():
        mine = [finding for finding in findings if finding.attack.group == group]
        cells = "".join(f"{sum(f.contained[level] for f in mine):>10}" for level in levels)
        click.echo(f"{group:<30}{count:>8}{cells}{sum(f.control for f in mine):>10}")
    cells = "".join(f"{sum(f.contained[level] for f in findings):>10}" for level in levels)
    click.echo(f"{'all':<30}{len(findings):>8}{cells}{sum(f.control for f in findings):>10}")
    for level in levels:
        through = [f"{f.attack.group}: {f.attack.name}" for f in findings if not f.contained[level]]
        if through:
            click.echo(f"not contained at {level}: " + "; ".join(through))
    unproven = [f"{f.attack.group}: {f.attack.name}" for f in findings if not f.control]
    if unproven:
        click.echo("control did not succeed here (so nothing is proven): " + "; ".join(unproven), file=sys.stdout)
