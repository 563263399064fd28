"""The report and the figures: complete, offline, safe, and openable by a browser without a complaint."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from run_dirs import COLLAPSE, CONFIG, RISE, write_demo, write_run

from sr_monitor import MonitorError, read_runs

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from sr_monitor.analysis.verdict import judge
from sr_monitor.report.figures import plot_curves, svg_text, write_figure
from sr_monitor.report.html import _arms, render, summarize, write_report

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balanced(HTMLParser):
    """Fails on a tag closed out of order; collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report([write_demo(folder / "demo")], folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def page(report: Path) -> str:
    return report.read_text()


def test_every_link_of_the_page_leads_to_a_term_of_its_glossary(page: str) -> None:
    links = re.findall(r'<a href="([^"]*)"', page)
    assert {"#glossary", "#peak", "#gap", "#kept", "#audit"} <= set(links)
    assert all(link.startswith("#") and page.count(f'id="{link[1:]}"') == 1 for link in links)


def test_the_page_is_well_formed_and_tells_the_story(page: str) -> None:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "“unguarded” started at 37.5% held-out pass@1, reached 93.8% (step 4) and ended at 6.2%" in parser.text
    assert "Kept:" in parser.text
    assert "roll_back to 5" in parser.text
    assert "collapsed" in parser.text


def test_nothing_is_fetched_and_nothing_is_executed(page: str) -> None:
    # names of XML vocabularies are not addresses; everything else that could be loaded is refused
    assert not re.search(r'(src|href|action)="(?!#|data:)', re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))
    assert "@import" not in page
    assert "url(http" not in page
    assert "<script" not in page.lower()
    assert "default-src 'none'" in page


def test_what_the_policy_wrote_is_escaped(page: str) -> None:
    assert "&lt;script&gt;" in page
    assert "\x07" not in page


def test_ids_of_several_figures_do_not_clash(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', page)) <= set(ids)


def test_summaries_have_three_sentences_and_those_of_a_few_runs_tell_each(tmp_path: Path) -> None:
    for count, sentences in ((1, 3), (2, 3), (4, 5), (5, 3)):
        folder = tmp_path / str(count)
        for number in range(count):
            write_run(folder / f"r{number}", COLLAPSE if number else RISE)
        runs = read_runs(folder)
        assert len(summarize(runs, [judge(run) for run in runs])) == sentences


def test_a_run_that_never_rose_is_told_so(tmp_path: Path) -> None:
    runs = read_runs(write_run(tmp_path / "down", [12, 9, 6, 3]))
    assert summarize(runs, [judge(run) for run in runs])[0] == (
        "“down” started at its highest held-out pass@1, 75.0%, and ended at 18.8% (step 3)."
    )


def test_a_chain_has_a_row_per_campaign(tmp_path: Path) -> None:
    page = render(read_runs(write_run(tmp_path / "chain", COLLAPSE, campaigns=3)))
    assert page.count('class="bad">87.5%') == 3


def test_a_chain_that_peaks_in_a_later_campaign_is_told_with_its_number(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "chain", RISE, campaigns=3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        count = row["heldout_passes"][0] - 2 * (2 - row["campaign"])  # every campaign is better than the one before
        row |= {"heldout_passes": [count] * 30, "heldout_pass1": count / 16}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = render(read_runs(folder))
    assert "“chain” started at 12.5% held-out pass@1, reached 93.8% (campaign 2, step 4) and ended there." in said


def test_repeated_runs_are_an_arm_with_an_interval(tmp_path: Path) -> None:
    for number in range(3):
        write_run(tmp_path / f"r{number}", COLLAPSE if number else RISE)
    page = render(read_runs(tmp_path))
    assert "reinforce + collapse on pocket-rich" in page
    assert "66.7%" in page  # two of three campaigns collapsed
    assert "<h2>Arms</h2>" not in render(read_runs(tmp_path / "r0"))


def with_optim(**optim: object) -> dict[str, dict[str, object]]:
    return {**CONFIG, "optim": optim}


def test_runs_that_differ_in_more_than_their_seed_are_different_arms(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"large-{seed}", COLLAPSE, config=with_optim(lr=1e-3, beta1=0.9), seed=seed)
        write_run(tmp_path / f"small-{seed}", RISE, config=with_optim(lr=1e-6, beta1=0.9, average=True), seed=seed)
    arms = _arms(read_runs(tmp_path))
    assert [(arm["name"], arm["runs"]) for arm in arms] == [
        ("reinforce + collapse on pocket-rich, optim.average unset, optim.lr 0.001", 2),
        ("reinforce + collapse on pocket-rich, optim.average true, optim.lr 1e-06", 2),
    ]
    assert [arm["kept"].estimate for arm in arms] == pytest.approx([1 / 16, 15 / 16])


def test_runs_without_a_configuration_are_arms_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.csv").write_text("step,heldout_pass1\n0,0.1\n1,0.2\n")
    logs = [run for folder in ("a", "b") for run in read_runs(tmp_path / folder / "log.csv")]
    assert _arms(logs) == []
    for seed in range(2):
        write_run(tmp_path / "ours" / str(seed), RISE, seed=seed)
    assert [(arm["name"], arm["runs"]) for arm in _arms([*logs, *read_runs(tmp_path / "ours")])] == [
        (f"log, {tmp_path / 'a' / 'log.csv'}", 1),
        (f"log, {tmp_path / 'b' / 'log.csv'}", 1),
        ("reinforce + collapse on pocket-rich", 2),
    ]


def test_a_run_that_fell_after_the_kept_policy_is_not_told_to_go_back(tmp_path: Path) -> None:
    es: dict[str, dict[str, object]] = {**CONFIG, "guard": {"name": "early_stop", "mode": "next_budget"}}
    runs = read_runs(write_run(tmp_path / "es", COLLAPSE, kept_step=4, config=es))
    assert summarize(runs, [judge(run) for run in runs]) == [
        "“es” started at 37.5% held-out pass@1, reached 93.8% (step 4) and ended at 6.2% (step 8).",
        "Held-out pass@1 peaked at 93.8% (step 4), its last value. The policy of step 4 was kept; what came after "
        "it does not count.",
        "Nothing was rolled back; the kept policy passes 93.8% (on the audit set, which is never used for decisions).",
    ]


def test_a_run_without_evaluations_or_samples_is_reported_too(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"campaign": 0, "step": 1, "train_reward": 0.5}\n')
    assert "never evaluated" in render(read_runs(folder))


def test_figures_are_written_as_png_and_svg(tmp_path: Path) -> None:
    write_figure([write_demo(tmp_path / "demo")], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_the_same_run_gives_the_same_figure(tmp_path: Path) -> None:
    runs = read_runs(write_demo(tmp_path / "demo"))
    assert svg_text(plot_curves(runs)) == svg_text(plot_curves(runs))


def test_the_onset_is_marked_where_a_run_collapsed_and_nowhere_else(tmp_path: Path) -> None:
    collapsed = read_runs(write_run(tmp_path / "a", COLLAPSE))
    healthy = read_runs(write_run(tmp_path / "b", RISE))
    assert "onset" not in svg_text(plot_curves(healthy))
    assert "onset" in svg_text(plot_curves(collapsed))


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    demo = write_demo(tmp_path / "demo")
    with pytest.raises(MonitorError, match="cannot be written"):
        write_report([demo], tmp_path / "absent" / "report.html")
    with pytest.raises(MonitorError, match="cannot be written"):
        write_figure([demo], tmp_path / "absent" / "curves.png")


needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs the command chromium (Debian's package of that name)"
)


def browse(page: Path, *options: str) -> list[str]:
    """What a headless browser complained of on opening ``page``, and what the page itself asked the network for."""
    folder = page.with_suffix(".browser")
    log = folder.with_suffix(".net")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run"]
    flags += ["--disable-background-networking", "--hide-scrollbars", "--window-size=1200,2600"]
    command = ["chromium", *flags, f"--user-data-dir={folder}", f"--log-net-log={log}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [e["url"] for e in events if "url" in e and e.get("initiator", "not an origin") != "not an origin"]
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line] + asked


@needs_browser
def test_a_browser_shows_it_without_console_errors_and_without_network(report: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose.html"
    loose.write_text("<img src='http://example.invalid/x.png'><script>console.error('seen')</script>")
    shown = f"--screenshot={tmp_path / 'shown.png'}"
    assert [("seen" in line, "x.png" in line) for line in browse(loose, shown)] == [(True, False), (False, True)]
    assert browse(report, shown) == []


@needs_browser
def test_it_is_readable_in_light_and_in_dark(report: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    for option, paper in (("--disable-extensions", 1.0), ("--force-dark-mode", 0.0)):
        picture = tmp_path / "shown.png"
        browse(report, option, f"--screenshot={picture}")
        grey = imread(picture)[..., :3].mean(axis=-1)
        assert abs(np.median(grey) - paper) < 0.15  # most of a page is paper
        assert (abs(grey - paper) > 0.6).mean() > 0.01  # and what is written on it stands out


@needs_browser
def test_it_prints_to_pdf(report: Path, tmp_path: Path) -> None:
    browse(report, f"--print-to-pdf={tmp_path / 'report.pdf'}")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_of_means_of_iterates_the_story_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mean", RISE)
    run = json.loads((folder / "run.json").read_text())
    run["config"]["optim"] = {"average": True}
    (folder / "run.json").write_text(json.dumps(run))
    runs = read_runs(folder)
    said = summarize(runs, [judge(run) for run in runs])[0]
    assert "“mean” started at 37.5% held-out pass@1 (of the mean of its iterates), reached 93.8%" in said


def test_a_last_iterate_that_was_kept_is_named_and_stands_where_it_was_measured(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mean", RISE)
    summary = json.loads((folder / "summary.json").read_text())
    last = len(RISE) - 1
    summary["campaigns"][0] |= {"kept": 0.99, "kept_step": last, "kept_iterate": True}
    (folder / "summary.json").write_text(json.dumps(summary))
    runs = read_runs(folder)
    assert "<td>last</td>" in render(runs)
    figure = plot_curves(runs)
    (star,) = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "*"]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([last], [99.0])


def test_metrics_of_different_scales_get_a_panel_each_and_their_own_names(tmp_path: Path) -> None:
    tables = {"rate": "eval_acc", "loss": "eval_loss", "score": "eval_reward"}
    for name, column in tables.items():
        rows = [f"{step},{10 + 5 * step if name == 'rate' else -0.1 * step}" for step in range(8)]
        (tmp_path / f"{name}.csv").write_text(f"step,{column}\n" + "\n".join(rows) + "\n")
    runs = [run for name in tables for run in read_runs(tmp_path / f"{name}.csv")]
    labels = [axes.get_ylabel() for axes in plot_curves(runs).axes]
    assert labels == ["eval_acc (%)", "eval_loss", "eval_reward"]
    page = render(runs)
    assert "pass@1" not in page
    assert "45.0%" in page
