"""Options that several commands share."""

from __future__ import annotations

import click

__all__ = ["json_option", "quiet_option", "settings_option"]

settings_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Lay a value over the scenario: network.nodes=500, workloads.0.lookups_per_s=50 (repeatable).",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor results.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on standard output.")
