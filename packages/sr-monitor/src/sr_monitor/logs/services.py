"""Services that keep a run's metrics elsewhere, as consoles mention them, and how to get them from there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# Name -> (what its client prints, how to export a run). A client that is only imported prints nothing.
SERVICES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "Weights & Biases": (
        re.compile(
            r"wandb: .*(?:Syncing run|Tracking run with wandb|View run|View project)|https?://wandb\.ai/\S+/runs/"
        ),
        'export it with wandb.Api().run("{run}").history(samples=10**6).to_csv("log.csv"), or as CSV from a panel of '
        "the run's page",
    ),
    "SwanLab": (
        re.compile(r"swanlab: .*(?:Syncing|Tracking run|View run|View project)"),
        "export it as CSV from the run's page",
    ),
    "MLflow": (
        re.compile(r"🏃 View run .+ at|mlflow\.tracking.*INFO", re.IGNORECASE),
        "export it with mlflow.MlflowClient().get_metric_history as CSV with the columns step and the metric's name",
    ),
    "Comet": (re.compile(r"COMET INFO:|CometLogger"), "export it as CSV from the experiment's page"),
    "Trackio": (re.compile(r"\* Trackio (?:project|metrics)"), "export it from trackio's local SQLite database as CSV"),
    "Neptune": (re.compile(r"https?://app\.neptune\.ai/\S+|\[neptune\]"), "export it with neptune-fetcher as CSV"),
}
_ADDRESS = re.compile(r"https?://\S+")


_ANY = re.compile("wandb|swanlab|mlflow|View run|comet|trackio|neptune", re.IGNORECASE)


def services_in(line: str) -> Iterator[tuple[str, str]]:
    """(service, address or an empty string) that a line mentions."""
    if not _ANY.search(line):
        return
    for name, (pattern, _) in SERVICES.items():
        if pattern.search(line):
            address = _ADDRESS.search(line)
            yield name, address[0].rstrip(".,)") if address and "/runs/" in address[0] else ""


def how_to_get(found: Mapping[str, str]) -> str:
    """A sentence on where the metrics went and how to export them; ``found``: service -> address."""
    said = []
    for name, address in found.items():
        path = address.split("wandb.ai/")[-1].replace("/runs/", "/") if "wandb.ai/" in address else "ENTITY/PROJECT/RUN"
        said.append(f"{name}{f' ({address})' if address else ''}: {SERVICES[name][1].format(run=path)}")
    return f"Its metrics went to {'; and to '.join(said)}; then sr watch log.csv."
