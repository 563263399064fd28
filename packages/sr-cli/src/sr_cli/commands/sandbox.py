"""``sr sandbox``: check which isolation is available here, or run the attack suite."""

from __future__ import annotations

import click

from sr_cli.console import print_json
from sr_monitor.report.progress import Progress
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
    from sr_reward.attacks.summary import as_json_object, breaches_at, strongest, table_lines

    chosen = [each for each in ATTACKS if group is None or group in each.group]
    if not chosen:
        names = ", ".join(sorted({each.group for each in ATTACKS}))
        raise click.UsageError(f"--group must be part of a group's name, got {group!r}; the groups are {names}")
    progress = Progress(len(chosen), what="attacks run")
    findings = run_suite(chosen, progress=lambda done: progress.step())
    level = strongest(findings)
    breaches = breaches_at(findings, level)
    if as_json:
        print_json(as_json_object(findings))
    else:
        click.echo("\n".join(table_lines(findings)))
    for name in breaches:
        click.echo(f"sr: breach at level {level}: {name}", err=True)
    return 1 if breaches else 0
