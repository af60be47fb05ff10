"""Scores of answers that are not one text: word times, notes, lists of labels, captions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cli.score.metric import Scored
from cli.score.words import normal, normalizers
from errors import UsageError

if TYPE_CHECKING:
    from cli.output.answer import Answer, Word
    from cli.score.metric import Float64
    from tokenizer.timestamps import TimedWord


WIDTH = 128  # different labels of a run


class WordTimes:
    """The mean shift of the starts and ends of words in ms, over the words that both texts have.

    Accumulated averaging shift of Shi et al. 2023 (arXiv 2301.12343), the measure of the Qwen-Audio paper. References
    are written as the base model answers: `<|0.00|><|sil|><|0.54|>word<|0.86|>`.
    """

    libraries = ("jiwer", "whisper_normalizer")
    unit = "ms"

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored | None:
        """Words are paired as jiwer aligns them; None where no word is."""
        import jiwer

        from tokenizer.timestamps import parse_words

        said: Sequence[Word | TimedWord] = answer.words or parse_words(answer.text)[1]
        wanted = parse_words(references[0])[1]
        texts = [[normal(one.word, language) or "-" for one in words] for words in (wanted, said)]
        if not all(texts):
            return None
        joined, heard = (" ".join(word.replace(" ", "") for word in words) for words in texts)
        shifts = [
            1000 * abs(left - right)
            for chunk in jiwer.process_words(joined, heard).alignments[0]
            if chunk.type == "equal"
            for place in range(chunk.ref_end_idx - chunk.ref_start_idx)
            for left, right in _ends(wanted[chunk.ref_start_idx + place], said[chunk.hyp_start_idx + place])
        ]
        if not shifts:
            return None
        return Scored(sum(shifts) / len(shifts), (sum(shifts), len(shifts)), {"words": len(shifts) // 2})

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """The normaliser of each language."""
        return normalizers(languages)

    def total(self, stats: Float64) -> float:
        """The mean over all words."""
        return float(stats[:, 0].sum() / stats[:, 1].sum())


def _ends(wanted: Word | TimedWord, said: Word | TimedWord) -> tuple[tuple[float, float], tuple[float, float]]:
    return (wanted.start, said.start), (wanted.end, said.end)


class Note:
    """The share of notes whose tag is right: `<|midi_pitch_60|>`, or the instrument that is named behind its tag."""

    libraries = ("whisper_normalizer",)
    unit = "%"

    def __init__(self, pattern: str) -> None:
        """`pattern` has what counts in its group."""
        self._pattern = re.compile(pattern)

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored | None:
        """1 or 0; None where the reference does not tell."""
        del language
        wanted = {found for one in references if (found := self._found(one)) is not None}
        if not wanted:
            return None
        right = float(self._found(answer.text) in wanted)
        return Scored(right, (right, 1.0))

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """One normaliser for all."""
        del languages
        return normalizers([""])

    def total(self, stats: Float64) -> float:
        """Right ones by all."""
        return float(stats[:, 0].sum() / len(stats))

    def _found(self, text: str) -> str | None:
        found = self._pattern.search(text)
        return None if found is None else normal(found[1], "")


class Labels:
    """Mean average precision of lists of labels, such as the qualities of a note; an answer's own is Jaccard's index.

    What an answer names has the score 1, all else 0; the mean is over the labels that some reference has.
    """

    libraries = ("whisper_normalizer",)
    unit = "%"

    def __init__(self) -> None:
        """The labels are learnt from the answers and references."""
        self._numbers: dict[str, int] = {}

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored:
        """`stats` are 0 or 1 for each label of the references, then for each of the answers."""
        del language
        wanted, found = {label for one in references for label in _labels(one)}, _labels(answer.text)
        stats = [0.0] * (2 * WIDTH)
        for side, labels in enumerate((wanted, found)):
            for label in labels:
                number = self._numbers.setdefault(label, len(self._numbers))
                if number >= WIDTH:
                    raise UsageError(f"--score labels: more than {WIDTH} labels", fix="choose a metric for free text")
                stats[side * WIDTH + number] = 1.0
        return Scored(len(wanted & found) / max(len(wanted | found), 1), tuple(stats))

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """One normaliser for all."""
        del languages
        return normalizers([""])

    def total(self, stats: Float64) -> float:
        """The mean of the average precisions, as scikit-learn has them; of 0 and 1 they are soon reckoned.

        A label is named, or it is not: two thresholds. The share that is right, of those named and of all.
        """
        wanted, found = stats[:, :WIDTH], stats[:, WIDTH:]
        labels = wanted.any(0)
        wanted, found = wanted[:, labels], found[:, labels]
        right, due = (wanted * found).sum(0), wanted.sum(0)
        recall, precision = right / due, right / found.sum(0).clip(1)
        return float((recall * precision + (1 - recall) * due / len(stats)).mean()) if labels.any() else 0.0


def _labels(text: str) -> set[str]:
    """Those behind <|sonic|> if there is one, up to the next tag, with commas between; fast_decay is fast decay."""
    found = re.search(r"<\|sonic\|>(.*?)(?:<\||$)", text)
    return {label for one in (found[1] if found else text).split(",") if (label := normal(one, ""))}


class Cider:
    """CIDEr of pycocoevalcap, whose n-gram weights come from all references of the run.

    Texts are normalised as for the error rates; the original's tokenizer needs Java.
    """

    libraries = ("pycocoevalcap", "whisper_normalizer")
    unit = ""

    def __init__(self) -> None:
        """`prepare` is called before the first answer."""
        self._scorer: Any = None
        self._captions = 0

    def prepare(self, references: Iterable[Sequence[str]]) -> None:
        """Count in how many of the references each n-gram stands."""
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        self._scorer = CiderScorer()
        for texts in references:
            self._scorer += (None, [normal(one, "") for one in texts])
        self._scorer.compute_doc_freq()
        self._captions = len(self._scorer.crefs)

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored:
        """Its own CIDEr, 0 to 10."""
        from pycocoevalcap.cider.cider_scorer import cook_refs, cook_test

        del language
        self._scorer.ctest = [cook_test(normal(answer.text, ""))]
        own = cook_refs([normal(one, "") for one in references])
        self._scorer.crefs = [own, *[[]] * (self._captions - 1)]  # their number alone counts
        value = float(self._scorer.compute_cider()[0])
        return Scored(value, (value,))

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """One normaliser for all."""
        del languages
        return normalizers([""])

    def total(self, stats: Float64) -> float:
        """The mean."""
        return float(stats.mean())
