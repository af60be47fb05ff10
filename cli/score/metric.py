"""What every metric is: an answer's own score, and numbers that add up to the total's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cli.output.answer import Answer

    Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """`value` is an answer's own score, `stats` go into the total, `detail` into its JSON line beside the value."""

    value: float | None
    stats: tuple[float, ...]
    detail: dict[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """One way to hold answers against references."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """What is imported for it."""

    @property
    def unit(self) -> str:
        """%, ms or nothing: how the total is shown."""

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored | None:
        """The score of one answer; None where the metric says nothing about it."""

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """How it is reckoned, for score.json: the normaliser of each of the languages of the answers, a signature."""

    def total(self, stats: Float64) -> float:
        """`stats` float64 [answers, numbers] -> the score of all these answers."""
