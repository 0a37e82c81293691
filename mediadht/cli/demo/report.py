"""What a demo run says: its steps, for people and for programs, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mediadht.core.errors import EnvironmentFault, MediaDHTError

__all__ = ["DemoReport", "Step", "StepFailed", "Told"]


class StepFailed(MediaDHTError):
    """A step of the story did not come out as told: what happened, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a step has to tell: lines for people, the same as facts (JSON's types) for programs."""

    lines: tuple[str, ...]
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step that came out as the story tells."""

    number: int
    title: str
    lines: tuple[str, ...]
    facts: Mapping[str, object]
    duration_s: float

    def as_dict(self) -> dict[str, object]:
        """In JSON's types."""
        return {
            "step": self.number,
            "title": self.title,
            "lines": list(self.lines),
            "facts": dict(self.facts),
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole run."""

    steps: tuple[Step, ...]
    failure: str | None
    """What happened, why, what to do and where the logs are; None if every step came out."""
    folder: Path | None
    """Configuration, databases and logs, where they were kept."""
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether every step came out."""
        return self.failure is None

    def raise_for_failure(self) -> None:
        """Raises EnvironmentFault with the failure, if there was one."""
        if self.failure is not None:
            raise EnvironmentFault(self.failure)

    def as_dict(self) -> dict[str, object]:
        """In JSON's types."""
        return {
            "ok": self.ok,
            "failure": self.failure,
            "folder": None if self.folder is None else str(self.folder),
            "duration_s": round(self.duration_s, 3),
            "steps": [step.as_dict() for step in self.steps],
        }
