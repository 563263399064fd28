"""``sr warm-start``: a short supervised start on reference solutions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


@click.command(epilog="Example:  sr warm-start --policy smollm2-135m --tasks testbed --out runs/started")
@click.option("--policy", "path", required=True, help="A shipped or known name, a Hugging Face folder or a GGUF file.")
@click.option("--tasks", "source", required=True, help="A task file with reference solutions, or testbed.")
@click.option("--examples", default=224, show_default=True, help="Solutions to imitate, 16 a step.")
@click.option("--prompt", type=click.Choice(["completion", "chat"]), default="completion", show_default=True)
@click.option("--set", "settings", multiple=True, help="[policy] as in sr run: policy.template=FILE, ...")
@click.option("--seed", default=0, show_default=True, help="Seed of the order of examples.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder of the policy.")
def command(path: str, source: str, examples: int, prompt: str, settings: Sequence[str], seed: int, out: Path) -> None:
    """Imitate reference solutions for a few steps, and write a Hugging Face folder that policy.path takes."""
    from sr_cli.assemble import make_prompter
    from sr_core.config import PolicyConfig
    from sr_core.errors import ConfigError
    from sr_core.sections import build, parse_settings
    from sr_core.warm_start import WarmStart, describe, start_policy
    from sr_monitor.report.progress import Progress
    from sr_reward.formats import Skipped
    from sr_reward.grading.selection import tasks_of

    given = parse_settings(settings, {"policy": {"path": path, "prompt": prompt}})
    if others := given.keys() - {"policy"}:
        raise ConfigError(f"a warm start takes settings of [policy], got [{min(others)}]; leave it out")
    plan, config = WarmStart(examples=examples, seed=seed), build(PolicyConfig, given["policy"], "policy")
    progress = Progress(plan.steps, "steps")
    tasks, prompter = tasks_of(source, "train", skipped := Skipped()), make_prompter(config)
    if skipped.count:
        click.echo(f"sr warm-start: {skipped.describe()}", err=True)
    losses = start_policy(config, tasks, source, plan, out, lambda _: progress.step(), prompter)
    click.echo(describe(losses, config, source, out))
