"""``sr memory``: query CARE's memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from sr_care import CapabilityMemory, ask, describe
from sr_cli.console import json_option, print_json, print_result, print_table

_file, _new_file = (click.Path(exists=exists, dir_okay=False, path_type=Path) for exists in (True, False))
_db = click.option("--db", required=True, type=_file, help="The memory file.")


@click.group(epilog="Example: sr memory list --db memory.db")
def command() -> None:
    """Query CARE's memory: what past campaigns changed, and what that predicts for the next one."""


@command.command("list", epilog="Example: sr memory list --db memory.db --run chain-3 --json")
@_db
@click.option("--run", help="Only entries of this run.")
@click.option("--family", help="Only entries of this task family.")
@click.option("--algorithm", help="Only entries of this algorithm.")
@click.option("--limit", type=click.IntRange(min=1), default=30, show_default=True, help="At most so many.")
@json_option
def list_entries(
    db: Path, run: str | None, family: str | None, algorithm: str | None, limit: int, as_json: bool
) -> None:
    """The newest entries, oldest of them first."""
    with CapabilityMemory(db, read_only=True) as memory:
        total = len(memory)
        entries = [*memory.entries(run=run, family=family, algorithm=algorithm, limit=limit, newest_first=True)][::-1]
    if as_json:
        print_json({"total": total, "entries": [entry.to_dict() for entry in entries]})
        return
    table = Table(*describe.COLUMNS, box=None)
    for entry in entries:
        table.add_row(*describe.entry_cells(entry))
    print_table(table)
    click.echo(f"{len(entries)} of {total} entries")


@command.command(
    epilog="Examples: sr memory show --db memory.db 17 | "
    "sr memory show --db memory.db --algorithm grpo --lr 1e-3 --steps 20 --pass1 0.3 --figure belief.png"
)
@_db
@click.argument("entry_id", type=int, required=False)
@click.option("--algorithm", help="The strategy asked about; what is not given is taken from the newest entry.")
@click.option("--lr", type=float, help="Its learning rate.")
@click.option("--steps", type=int, help="Its gradient steps.")
@click.option("--penalty", type=float, help="Its penalty coefficient.")
@click.option("--family", help="The task family of the context asked about.")
@click.option("--pass1", type=float, help="Its pass@1 before.")
@click.option("--model-parameters", type=float, help="Its model size.")
@click.option("--figure", type=_new_file, help="Draw the belief into this file.")
@json_option
def show(db: Path, entry_id: int | None, figure: Path | None, as_json: bool, **asked: str | float | int | None) -> None:
    """One entry in full; or, without an id, what the memory says about a strategy in a context."""
    with CapabilityMemory(db, read_only=True) as memory:
        if entry_id is not None:
            entry = memory.entry(entry_id)
            print_result(as_json, entry.to_dict(), describe.entry_lines(entry))
            return
        given = {name: value for name, value in asked.items() if value is not None}
        strategy, context = describe.question(memory, given)
        decision = ask(memory, strategy, context)
        grounds = list(memory.entries(ids=decision.entries))
        if figure is not None:
            from sr_care.advice import alike
            from sr_care.figures import draw_posterior

            draw_posterior(memory.recall(), strategy, context, figure, entries=alike(memory, strategy, context))
        total = len(memory)
    if as_json:
        print_json({"total": total, "context": asdict(context), **asdict(decision)})
        return
    click.echo(describe.question_line(strategy, context, total))
    table = Table(*describe.EFFECTS, box=None)
    for cells in describe.effect_cells(decision):
        table.add_row(*cells)
    print_table(table)
    click.echo("\n".join(describe.decision_lines(decision, grounds)))


@command.command(epilog="Example: sr memory forget --db memory.db --run chain-3 --campaign 4 --reason 'wrong seed'")
@_db
@click.option("--id", "ids", type=int, multiple=True, help="An entry; repeatable.")
@click.option("--run", help="All entries of a run.")
@click.option("--campaign", type=int, help="Only this campaign of the run.")
@click.option("--reason", default="", help="Why; kept with them.")
@json_option
def forget(db: Path, ids: tuple[int, ...], run: str | None, campaign: int | None, reason: str, as_json: bool) -> None:
    """Set entries aside: they stay in the file and count in no belief any more."""
    with CapabilityMemory(db) as memory:
        count = memory.forget(ids=ids or None, run=run, campaign=campaign, reason=reason)
        total = len(memory)
    print_result(as_json, {"forgotten": count, "total": total}, [f"{count} entries set aside, {total} remembered"])


@command.command(epilog="Example: sr memory export --db memory.db --out entries.jsonl")
@_db
@click.option("--out", type=_new_file, help="A new file; stdout without it.")
@json_option
def export(db: Path, out: Path | None, as_json: bool) -> None:
    """All remembered entries as JSON, one a line (with --json and no --out: in one object)."""
    with CapabilityMemory(db, read_only=True) as memory:
        if out is not None:
            count = memory.export(out)
            print_result(as_json, {"out": str(out), "entries": count}, [f"{count} entries written to {out}"])
        elif as_json:
            print_json({"entries": [entry.to_dict() for entry in memory.entries()]})
        else:
            for entry in memory.entries():
                click.echo(json.dumps(entry.to_dict()))
