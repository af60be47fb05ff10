"""The benchmarks of the Qwen-Audio paper (arXiv 2311.07919): where each lies, how it is asked, what was published.

A split is one number of the paper: rows of its publisher's files become {"audio", "gt", "task", …}, as --files-from
reads them. Published scores are those of Qwen-Audio without fine-tuning, as shares where the paper has percent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.published import layouts

Row = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """One published number. `rows` reads the publisher's files below the root; `files` is how many sounds there are.

    `flags` are those of the command line beside the row's task; `lower` says that a lower score is better.
    """

    name: str
    rows: Callable[[Path], Iterator[Row]]
    metric: str
    published: float
    files: int | None = None
    flags: tuple[str, ...] = ()
    lower: bool = False


@dataclass(frozen=True)
class Table:
    """A benchmark: its splits, where the data are to be had, and their size as packed.

    Sizes are the publishers'. That of TUT2017 is the sum of its archives in dcase_util, that of CoVoST2 the sum of six
    languages in cv-corpus-4-2019-12-10.json of common-voice/cv-dataset, that of ClothoAQA is told by audidata.
    """

    splits: tuple[Split, ...]
    source: str
    size: str


def _librispeech(name: str, published: float, files: int) -> Split:
    return Split(name, partial(layouts.librispeech, split=name), "wer", published, files, lower=True)


def _aishell1(name: str, published: float, files: int) -> Split:
    return Split(name, partial(layouts.aishell1, split=name), "cer", published, files, lower=True)


def _aishell2(name: str, published: float) -> Split:
    return Split(name, partial(layouts.aishell2, device=name), "cer", published, 5000, lower=True)


def _covost(pair: str, published: float, files: int) -> Split:
    spoken, to = pair.split("-")
    rows = partial(layouts.covost2, spoken=spoken, to=to)
    return Split(pair, rows, "bleu-zh" if to == "zh" else "bleu", published, files, ("--task", "translate", "--to", to))


def _nsynth(name: str, metric: str, published: float) -> Split:
    return Split(name, layouts.nsynth, metric, published, 4096)


TABLES = {
    "librispeech": Table(
        (
            _librispeech("dev-clean", 0.018, 2703),
            _librispeech("dev-other", 0.040, 2864),
            _librispeech("test-clean", 0.020, 2620),
            _librispeech("test-other", 0.042, 2939),
        ),
        "https://www.openslr.org/12",
        "1.3 GB in four archives",
    ),
    "aishell1": Table(
        (_aishell1("dev", 0.012, 14326), _aishell1("test", 0.013, 7176)), "https://www.openslr.org/33", "15 GB"
    ),
    "aishell2": Table(
        (_aishell2("Mic", 0.033), _aishell2("iOS", 0.031), _aishell2("Android", 0.033)),
        "https://www.aishelltech.com/aishell_2 (on application)",
        "bytes not known here",
    ),
    "covost2": Table(
        (
            _covost("en-de", 25.1, 15531),
            _covost("de-en", 33.9, 13511),
            _covost("en-zh", 41.5, 15531),
            _covost("zh-en", 15.7, 4898),
            _covost("es-en", 39.7, 13221),
            _covost("fr-en", 38.5, 14760),
            _covost("it-en", 36.0, 8951),
        ),
        "https://github.com/facebookresearch/covost and Common Voice 4",
        "78.6 GB: Common Voice 4 in six languages",
    ),
    "clotho": Table(
        (Split("evaluation", layouts.clotho, "cider", 0.441, 1045),), "https://zenodo.org/records/4783391", "1.3 GB"
    ),
    "word-times": Table(
        (Split("word-times", layouts.word_times, "word-times", 51.5, lower=True),),
        "the authors' own industrial data, not published: any word-times.jsonl with audio and gt as the model writes it",
        "",
    ),
    "cochlscene": Table(
        (Split("test", layouts.cochlscene, "accuracy", 0.795, 7687),),
        "https://zenodo.org/records/7080122",
        "six archives of all 76,115 sounds; bytes not known here",
    ),
    "tut2017": Table(
        (Split("evaluation", layouts.tut2017, "accuracy", 0.649, 1620),),
        "https://zenodo.org/records/1040168",
        "3.6 GB in four archives",
    ),
    "meld": Table((Split("test", layouts.meld, "accuracy", 0.557, 2610),), "https://affective-meld.github.io", "10 GB"),
    "clothoaqa": Table(
        (
            Split("all", layouts.clothoaqa, "accuracy", 0.579),
            Split("binary", layouts.clothoaqa, "binary-accuracy", 0.749),
        ),
        "https://zenodo.org/records/6473207",
        "1,991 sounds, 3.7 GB unpacked",
    ),
    "vocalsound": Table(
        (Split("test", layouts.vocalsound, "accuracy", 0.9289, 3594),),
        "https://github.com/YuanGongND/vocalsound",
        "1.7 GB",
    ),
    "nsynth": Table(
        (_nsynth("qualities", "labels", 0.4742), _nsynth("instrument", "instrument", 0.7882)),
        "https://magenta.tensorflow.org/datasets/nsynth",
        "0.3 GB",
    ),
}
