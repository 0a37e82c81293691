"""`mediadht demo`: real homeservers and real daemons on loopback, and the story they tell."""

from mediadht.cli.demo.report import DemoReport, Step
from mediadht.cli.demo.run import run_demo

__all__ = ["DemoReport", "Step", "run_demo"]
