"""The ``sr`` group: finds a command's file when it is called, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import click

from sr_cli.launched import leads
from sr_core.sections import nearest

# name -> the line that `sr --help` shows, so that help need not import the command (and torch with it)
COMMANDS = {
    "demo": "Train a policy that collapses, then with a guard, then with measured steps.",
    "run": "Run one campaign or a chain of them.",
    "resume": "Continue a killed or interrupted run, bit for bit.",
    "report": "Write report.html and figures from run directories or logs.",
    "grade": "Grade completions and print pass@k.",
    "eval": "Sample from a model and print pass@k.",
    "tasks": "Select the tasks that a policy sometimes solves.",
    "warm-start": "Imitate reference solutions for a few steps, so that there is something to reinforce.",
    "sandbox": "Check sandbox isolation, or run the escape suite.",
    "watch": "Judge runs, ours or another trainer's, from their logs.",
    "study": "Compare the arms of a study file over seeds, resumable.",
    "memory": "Show, export or forget what CARE remembers.",
    "doctor": "Check what this machine offers, and say what to do where something is missing.",
}
START = """\
Five things to do (each takes --help):
  sr demo                                          see a policy collapse, and a guard prevent it (three minutes)
  sr run --set guard.name=collapse --out runs/one  train a policy with a guard
  sr watch PATH                                    judge a run of any trainer from its logs
  sr grade --tasks FILE --samples FILE             grade a model's programs in a sandbox, print pass@k
  sr study STUDY.toml --out DIR                    compare settings over seeds, on your model and tasks

sr doctor checks this machine; sr --help lists all commands."""

BAD_INPUT, INTERRUPTED = 2, 130


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called, not when ``sr`` starts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            if not ctx.resilient_parsing:
                raise click.UsageError(f"unknown command {name!r}: {nearest(name, COMMANDS)}")
            return None
        command: click.Command = importlib.import_module(f"sr_cli.commands.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sr-cli", prog_name="sr")
@click.pass_context
def sr(context: click.Context) -> None:
    """Train code models on unit tests, and detect and prevent their collapse.

    Start with: sr demo
    """
    if context.invoked_subcommand is None:
        click.echo(START)


def main() -> None:
    """Run ``sr``. Exit codes: 0 done, 1 a check failed, 2 bad input (one line on stderr), 130 interrupted.

    Of several processes only the first reports errors; the others report a RankError only.
    """
    from sr_care import CareError
    from sr_core.errors import CoreError, RankError
    from sr_monitor import MonitorError
    from sr_reward import RewardError

    # threads that wait by spinning cost several times the work on a machine that does other things, too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of the libraries below, which stand between our own lines
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that what was started ends, too
    try:
        code = sr.main(standalone_mode=False)
    except (CareError, CoreError, MonitorError, RewardError) as error:
        code = _refuse(str(error), leads() or isinstance(error, RankError))
    except click.ClickException as error:
        code = _refuse(error.format_message(), leads())
    except OSError as error:
        if error.filename is None:
            raise
        code = _refuse(f"{str(error.filename)!r} cannot be used ({error.strerror}): check it, or give another", leads())
    except (KeyboardInterrupt, click.Abort):
        if leads():
            click.echo("sr: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(text: str, speaks: bool) -> int:
    if speaks:
        click.echo(f"sr: {' '.join(text.split())}", err=True)
    return BAD_INPUT
