"""The HTML report of a run: one file, readable from disk without a network."""

from mediadht_sim.report.page import write_report

__all__ = ["write_report"]
