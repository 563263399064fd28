"""``sr report``: one HTML file and the figures from run directories."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Example: sr report sr-demo --out demo.html")
@click.argument("dirs", nargs=-1, required=True, metavar="DIR…", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file to write; default: report.html in the first DIR."
)
def command(dirs: tuple[Path, ...], out: Path | None) -> None:
    """Write report.html (self-contained, works offline) and curves.png, curves.svg from run directories."""
    from sr_monitor.report.figures import write_figure
    from sr_monitor.report.html import write_report

    first = dirs[0] if dirs[0].is_dir() else dirs[0].parent
    target = out if out is not None else first / "report.html"
    write_report(dirs, target)
    figure = target.with_name("curves.png" if out is None else f"{target.stem}-curves.png")
    write_figure(dirs, figure)
    for path in (target, figure, figure.with_suffix(".svg")):
        click.echo(str(path))
