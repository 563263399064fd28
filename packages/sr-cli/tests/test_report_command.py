"""``sr report`` writes a page and figures where it is told."""

import json
from pathlib import Path

from click.testing import CliRunner

from sr_cli.commands.report import command
from sr_monitor import MonitorError


def run_dir(folder: Path) -> Path:
    rows = [
        {"campaign": 0, "step": s, "heldout_pass1": p / 16, "heldout_passes": [p] * 10, "heldout_samples": 16}
        for s, p in enumerate([4, 8, 14, 2])
    ]
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_report_goes_into_the_run_directory_by_default(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run")
    result = CliRunner().invoke(command, [str(folder)])
    assert result.exit_code == 0
    assert result.stdout.split() == [str(folder / n) for n in ("report.html", "curves.png", "curves.svg")]
    assert "87.5%" in (folder / "report.html").read_text()


def test_out_names_the_file(tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    folders = [str(run_dir(tmp_path / name)) for name in ("a", "b")]
    assert CliRunner().invoke(command, [*folders, "--out", str(out)]).exit_code == 0
    assert out.exists()
    assert (tmp_path / "both-curves.png").exists()


def test_a_directory_without_a_run_is_one_error_and_nothing_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert isinstance(result.exception, MonitorError)
    assert list(tmp_path.iterdir()) == []
