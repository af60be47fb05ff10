"""What --score does in a run: each answer gets its own scores, and in the end there are totals with intervals.

An interval is that of the bootstrap: answers are drawn with replacement, and the middle 95 % of the totals are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cli.inputs.beside import text_beside
from cli.output.answer import json_text
from cli.score.table import METRICS
from errors import InputError
from tokenizer.tasks import LANGUAGES

if TYPE_CHECKING:
    import numpy as np

    from cli.inputs.search import Group
    from cli.output.answer import Answer
    from cli.score.metric import Metric

DRAWS, SEED, INTERVAL = 1000, 0, 0.95
DIGITS = 6
PACKAGES = {
    "jiwer": "jiwer",
    "sacrebleu": "sacrebleu",
    "whisper_normalizer": "whisper-normalizer",
    "pycocoevalcap": "pycocoevalcap",
}


class Scorer:
    """The scores of one run. `add` for each answer, then `lines` and `as_json`."""

    def __init__(self, names: Sequence[str], *, language: str | None = None) -> None:
        """`names` are some of METRICS; `language` is that of references whose list does not tell."""
        self._metrics: dict[str, Metric] = {name: METRICS[name]() for name in names}
        self._language = language or "en"
        self._stats: dict[str, list[tuple[str, tuple[float, ...]]]] = {name: [] for name in names}
        self._languages: dict[str, None] = {}
        self._without = self._failed = 0
        self._models: dict[str, None] = {}

    def prepare(self, groups: Iterable[Group]) -> None:
        """Let a metric see all references, if it must."""
        for metric in self._metrics.values():
            if hasattr(metric, "prepare"):
                metric.prepare(found for group in groups if (found := _readable(group)) is not None)

    def add(self, answer: Answer) -> None:
        """Score a whole answer: `answer.score` is filled."""
        self._models[answer.model or ""] = None
        if answer.references is None:
            self._without += 1
            return
        answer.score, language = {}, _code(answer.language or self._language)
        self._languages[language] = None
        for name, metric in self._metrics.items():
            scored = metric.score(answer, answer.references, language)
            if scored is None:
                answer.score[name] = {"value": None}
                continue
            value = None if scored.value is None else round(scored.value, DIGITS)
            answer.score[name] = {"value": value, **scored.detail}
            self._stats[name].append((answer.source or "", scored.stats))

    def fail(self, answers: Sequence[Answer]) -> None:
        """Answers that never came: they have no score, and are told."""
        self._failed += len(answers)

    def lines(self) -> Iterator[str]:
        """The totals as the summary tells them."""
        for name, metric in self._metrics.items():
            rows = self._stats[name]
            if not rows:
                yield f"{name}: no answer could be scored"
                continue
            yield f"{name} {_shown(self._total(metric, rows), metric.unit)}"
            for source in self._sources(name):
                own = [row for row in rows if row[0] == source]
                yield f"  {source or 'no source'}: {_shown(self._total(metric, own), metric.unit)}"
        if self._failed or self._without:
            fix = "; give it in the list, or as text beside the sound" if self._without else ""
            yield f"not scored: {self._failed} failed, {self._without} without a reference{fix}"
        yield f"scored by {', '.join(f'{name} {one}' for name, one in sorted(self._versions().items()))}"

    def as_json(self) -> str:
        """The content of score.json."""
        metrics = {}
        for name, metric in self._metrics.items():
            rows = self._stats[name]
            by_source = {
                source: self._total(metric, [row for row in rows if row[0] == source]) for source in self._sources(name)
            }
            total = self._total(metric, rows) if rows else {"value": None, "answers": 0}
            metrics[name] = {
                **total,
                "unit": metric.unit,
                "by_source": by_source,
                "libraries": _versions(metric),
                **metric.method(list(self._languages)),
            }
        return json_text(
            {
                "metrics": metrics,
                "failed": self._failed,
                "without_reference": self._without,
                "interval": {"share": INTERVAL, "draws": DRAWS, "seed": SEED, "method": "bootstrap over answers"},
                "libraries": dict(sorted(self._versions().items())),
                "models": list(self._models),
            },
            indent=1,
        )

    @property
    def has_begun(self) -> bool:
        """Whether there was an answer, or one that failed."""
        return bool(self._models or self._failed)

    @property
    def is_empty(self) -> bool:
        """Whether a metric could score no answer."""
        return not all(self._stats.values())

    def _versions(self) -> dict[str, str]:
        return {name: one for metric in self._metrics.values() for name, one in _versions(metric).items()}

    def _sources(self, name: str) -> list[str]:
        found = dict.fromkeys(source for source, _ in self._stats[name])
        return list(found) if len(found) > 1 else []

    def _total(self, metric: Metric, rows: Sequence[tuple[str, tuple[float, ...]]]) -> dict[str, Any]:
        import numpy as np

        stats = np.array([numbers for _, numbers in rows], np.float64)
        low, high = _bootstrap(metric, stats)
        value = metric.total(stats)
        return {"value": round(value, DIGITS), "low": low, "high": high, "answers": len(rows)}


def _versions(metric: Metric) -> dict[str, str]:
    """The packages of a metric, each with its version."""
    return {PACKAGES[one]: version(PACKAGES[one]) for one in metric.libraries}


def _readable(group: Group) -> tuple[str, ...] | None:
    with suppress(InputError):  # its own turn tells
        return references_of(group)
    return None


def references_of(group: Group) -> tuple[str, ...] | None:
    """What a list says about a sound, else what lies beside it."""
    if group.references is not None:
        return group.references
    found = text_beside(group.paths[0])
    return None if found is None else (found,)


def _code(language: str) -> str:
    """The code of a language as lists write it: en, en-US, English."""
    name = re.split("[-_]", language.strip().casefold())[0]
    return next((code for code, english in LANGUAGES.items() if name == english.casefold()), name)


def _bootstrap(metric: Metric, stats: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """The ends of the interval: percentiles of the totals of DRAWS samples, always the same ones."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    totals = [metric.total(stats[rng.integers(len(stats), size=len(stats))]) for _ in range(DRAWS)]
    low, high = np.quantile(totals, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return round(float(low), DIGITS), round(float(high), DIGITS)


def _shown(total: dict[str, Any], unit: str) -> str:
    """4.20 % (95 %: 3.10 to 5.50) on 200 answers."""
    factor = 100 if unit == "%" else 1
    value, low, high = (f"{total[name] * factor:.2f}" for name in ("value", "low", "high"))
    word = "answer" if total["answers"] == 1 else "answers"
    return f"{value}{f' {unit}' if unit else ''} ({INTERVAL:.0%}: {low} to {high}) on {total['answers']} {word}"
