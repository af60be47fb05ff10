"""The metrics of --score by name. To add one, add a line. Their libraries are imported where they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from cli.score.labels import Cider, Labels, Note, WordTimes
from cli.score.metric import Metric
from cli.score.words import Bleu, ErrorRate, Share
from errors import QwenAudioError, UsageError

METRICS: dict[str, Callable[[], Metric]] = {
    "wer": ErrorRate,
    "cer": partial(ErrorRate, characters=True),
    "bleu": partial(Bleu, "13a"),
    "bleu-zh": partial(Bleu, "zh"),
    "bleu-ja": partial(Bleu, "ja-mecab"),
    "accuracy": Share,
    "binary-accuracy": partial(Share, only=("yes", "no")),
    "contains": partial(Share, within=True),
    "word-times": WordTimes,
    "cider": Cider,
    "labels": Labels,
    "pitch": partial(Note, r"<\|midi_pitch_(\d+)\|>"),
    "velocity": partial(Note, r"<\|midi_velocity_(\d+)\|>"),
    "instrument": partial(Note, r"<\|instrument\|>([^<]+)"),
}
ELSEWHERE = ("spice", "spider")
_NEEDS = {"bleu-ja": ("MeCab", "ipadic")}


def check_metrics(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown metric, and a QwenAudioError where its libraries are missing."""
    for name in names:
        if name in ELSEWHERE:
            fix = "run cider here, and give the answers of --json to aac-metrics"
            raise UsageError(f"--score {name}: needs Java and models of its own, which are not fetched here", fix=fix)
        if name not in METRICS:
            raise UsageError(f"--score {name}: no such metric", fix=f"choose from {', '.join(METRICS)}")
        needed = (*METRICS[name]().libraries, *_NEEDS.get(name, ()))
        if missing := [library for library in needed if find_spec(library) is None]:
            fix = "`python3 -m pip install -r requirements-eval.txt`"
            text = f"--score {name}: {', '.join(missing)} is not installed"
            raise QwenAudioError(text, fix, kind="package", exit_code=3)
