"""``sr study``: the comparison of arms over seeds."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command(epilog="Example:  sr study benchmarks/study/paper.toml --quick --out studies/quick")
@click.argument("study_file", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--arms", metavar="A,B,…", help="Only these, and those they copy from.  [default: all]")
@click.option("--regimes", metavar="A,B,…", help="Only these.  [default: as the study says]")
@click.option("--seeds", metavar="FIRST-LAST", help="Seeds; an arm may take fewer.  [default: as the study says]")
@click.option("--quick", is_flag=True, help="What the study's [quick] table says: few arms and seeds, short chains.")
@click.option("--workers", type=click.IntRange(min=1), help="Chains at a time, a thread each.  [default: one per core]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The study's folder; it is continued.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json as one JSON object.")
def command(
    study_file: Path,
    arms: str | None,
    regimes: str | None,
    seeds: str | None,
    quick: bool,
    workers: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Compare the arms that STUDY.toml declares over seeds, on an audit set never used for decisions.

    Chains that have a record in the folder are not run again. Writes results.json, RESULTS.md and a figure for each
    regime after every chain.
    """
    from sr_cli.console import print_json
    from sr_cli.studies import open_study, read_spec, write_results

    spec = read_spec(study_file, quick=quick)
    chosen = spec.with_sources(_names(arms) or spec.quick.arms or list(spec.arms))
    where = spec.named("regime", _names(regimes) or spec.quick.regimes or spec.choice.default_regimes)
    numbers = _seeds(seeds or f"0-{(spec.quick if quick else spec.choice).seeds - 1}")
    study = open_study(spec, out)
    chains = study.plan(where or list(spec.regimes), chosen, numbers)
    done = sum(study.done(chain) for chain in chains)
    click.echo(f"{len(chains)} chains, {done} of them done", err=True)

    def report(chain: object) -> None:
        nonlocal done
        done += 1
        click.echo(f"{chain}: done ({done} of {len(chains)})", err=True)
        write_results(study)

    study.run(chains, workers=workers or os.cpu_count() or 1, on_done=report)
    results = write_results(study)
    if as_json:
        print_json(results)
    else:
        click.echo((out / "RESULTS.md").read_text())


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()) or int(last or first) < int(first):
        raise click.UsageError(f"--seeds takes FIRST-LAST, whole numbers in rising order, got {text!r}")
    return list(range(int(first), int(last or first) + 1))
