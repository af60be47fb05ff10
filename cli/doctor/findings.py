"""What the checks of `--doctor` return: findings, and what later checks need of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cli.options import Options
from errors import QwenAudioError, printable

if TYPE_CHECKING:
    from models.manifest import Manifest

State = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """`state` is ok, bad (something cannot run) or note (it can, but); `fix` is what to do, `facts` go into --json."""

    section: str
    name: str
    state: State
    text: str
    fix: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One printed line, safe for any characters in a path."""
        return printable(f"{self.state:<4}  {self.section:<9}  {self.name}: {self.text}")


@dataclass
class Seen:
    """Models that are whole, by name; backends that start; needed packages that do not load."""

    models: dict[str, Manifest] = field(default_factory=dict)
    backends: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def runnable(self, options: Options) -> list[str]:
        """The models that these options could run, in the order in which they were found."""
        if self.broken:
            return []
        started = {name for name in self.backends if options.backend in {"auto", name}}
        asked = {str(options.model)} if options.model else set(self.models)
        return [name for name, model in self.models.items() if name in asked and started & set(model.backends)]


def reason_of(failure: Exception) -> str:
    """A failure in one line: our own errors say what they are."""
    text = " ".join(str(failure).split())
    return text if isinstance(failure, QwenAudioError) else f"{type(failure).__name__}: {text}"


def fix_of(failure: Exception) -> str:
    """What to do about a failure; only our own errors say it."""
    return failure.fix.replace("`", "") if isinstance(failure, QwenAudioError) else ""


def gigabytes(size: float) -> str:
    """A number of bytes, readable."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
