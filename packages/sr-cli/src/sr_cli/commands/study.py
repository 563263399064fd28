"""``sr study``: the comparison of arms over seeds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

FORKS = "So many checkpoints of each regime just before a peak, and all ways to go on from there; no chains but --arms."


@click.command(epilog="Example:  sr study --quick --out studies/quick")
@click.option("--arms", metavar="A,B,…", help="Only these (with those they copy from).  [default: all; quick: four]")
@click.option("--regimes", metavar="A,B,…", help="Only these policies and learning rates.  [default: rich,fragile]")
@click.option("--seeds", default="0-4", show_default=True, metavar="FIRST-LAST", help="Seeds; controls take three.")
@click.option("--forks", default=0, show_default=True, metavar="N", type=click.IntRange(min=0), help=FORKS)
@click.option("--quick", is_flag=True, help="Four arms, short chains, one regime: under 15 minutes on two cores.")
@click.option("--workers", type=click.IntRange(min=1), help="Chains at a time, a thread each.  [default: one per core]")
@click.option("--rebuild", is_flag=True, help="Run nothing: tables and figures from what is there.")
@click.option("--pack", is_flag=True, help="Run nothing: put all records into one file, half as large.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The study's directory; it goes on there.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json as one JSON object.")
def command(
    arms: str | None,
    regimes: str | None,
    seeds: str,
    forks: int,
    quick: bool,
    workers: int | None,
    rebuild: bool,
    pack: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Compare arms over seeds, on an audit set that no decision sees; killed, it goes on where it was.

    Writes results.json, RESULTS.md and figures into the directory, after every chain; RESULTS.md begins with what
    stands in a READING.md there.
    """
    from sr_cli.study import arms as choices
    from sr_cli.study.chains import Chain, Study, plan
    from sr_cli.study.forks import run_forks

    default = () if forks else choices.QUICK_ARMS if quick else tuple(choices.ARMS)
    chosen = choices.arms_named(_names(arms) or default)
    where = choices.regimes_named(_names(regimes) or (choices.MAIN_REGIMES[:1] if quick else choices.MAIN_REGIMES))
    numbers = _seeds("0-1" if quick and seeds == "0-4" else seeds)
    study = Study(out, quick=quick)
    chains = plan(where, chosen, numbers)
    done = sum(study.done(chain) for chain in chains)
    click.echo(f"{len(chains)} chains, {done} of them done", err=True)

    def report(chain: Chain) -> None:
        nonlocal done
        done += 1
        click.echo(f"{chain}: done ({done} of {len(chains)})", err=True)
        write(study)

    if pack:
        click.echo(f"{study.records.pack()} records packed", err=True)
    if not rebuild and not pack:
        at_once = workers or os.cpu_count() or 1
        study.run(chains, workers=at_once, on_done=report)
        for regime in where:
            run_forks(
                study.records, regime, range(forks), workers=at_once, on_done=lambda name: click.echo(name, err=True)
            )
    results = write(study)
    click.echo(json.dumps(results) if as_json else (out / "RESULTS.md").read_text())


def write(study: Any) -> dict[str, Any]:
    """Results, tables and figures of all the chains that the study has."""
    from sr_cli.study import care_pages, fork_pages, pages
    from sr_cli.study.arms import REGIMES
    from sr_cli.study.forks import judge_forks, read_forks
    from sr_cli.study.results import judge
    from sr_core.runs.atomic_io import write_json

    records = study.by_arm()
    results = judge(records)
    forks = {regime: found for regime in REGIMES if (found := read_forks(study.records, regime))}
    results["forks"] = {regime: judge_forks(found) for regime, found in forks.items()}
    write_json(study.folder / "results.json", results)
    pictures = pages.figures(results, records, study.folder)
    reading = study.folder / "READING.md"
    words = [reading.read_text()] if reading.exists() else []
    around = [fork_pages.tables(regime, results["forks"][regime], found) for regime, found in forks.items()]
    tables = [
        text
        for regime, judged in results["regimes"].items()
        for text in (pages.tables(regime, judged["arms"]), care_pages.tables(records[regime]))
    ]
    text = "\n".join([*words, *tables, *around, *(f"![{name[:-4]}]({name})" for name in pictures)])
    (study.folder / "RESULTS.md").write_text(text + "\n")
    return results


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()) or int(last or first) < int(first):
        raise click.UsageError(f"--seeds takes FIRST-LAST, whole numbers in rising order, got {text!r}")
    return list(range(int(first), int(last or first) + 1))
