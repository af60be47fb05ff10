"""Scores of a text against what a good answer says: error rates, BLEU and exact answers.

Texts are normalised as openai-whisper does it, by whisper-normalizer: English by its English rules, others by its
basic ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cli.score.metric import Scored

if TYPE_CHECKING:
    from cli.output.answer import Answer
    from cli.score.metric import Float64

UNSPACED = {"zh", "ja"}  # written without spaces


@cache
def normalizer(language: str) -> Any:
    """A function text -> text."""
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()


def normalizers(languages: Sequence[str]) -> dict[str, Any]:
    """What the texts of these languages are normalised by; "" is any language."""
    names = {one or "all": type(normalizer(one)).__name__ for one in languages}
    return {"normalizer": {"package": "whisper-normalizer", "version": version("whisper-normalizer"), "names": names}}


def normal(text: str, language: str) -> str:
    """A text without what does not count."""
    return " ".join(normalizer(language)(text).split())


class ErrorRate:
    """(substitutions + deletions + insertions) / words of the reference: WER, or CER with `characters`."""

    libraries = ("jiwer", "whisper_normalizer")
    unit = "%"

    def __init__(self, *, characters: bool = False) -> None:
        """Count words, or characters."""
        self._characters = characters

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored:
        """Against the nearest of the references."""
        return min((self._against(answer.text, one, language) for one in references), key=lambda one: one.value or 0)

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """The normaliser of each language."""
        return normalizers(languages)

    def total(self, stats: Float64) -> float:
        """All errors by all words."""
        return _ratio(stats.sum(0))

    def _against(self, text: str, reference: str, language: str) -> Scored:
        import jiwer

        found, wanted = normal(text, language), normal(reference, language)
        if self._characters:
            if language in UNSPACED:
                found, wanted = found.replace(" ", ""), wanted.replace(" ", "")
            of = jiwer.process_characters(wanted, found)
        else:
            of = jiwer.process_words(wanted, found)
        errors = of.substitutions + of.deletions + of.insertions
        length = of.substitutions + of.deletions + of.hits
        joint = "" if self._characters else " "
        pairs = [
            [
                joint.join(of.references[0][chunk.ref_start_idx : chunk.ref_end_idx]),
                joint.join(of.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx]),
            ]
            for chunk in of.alignments[0]
        ]
        detail = {"errors": errors, "characters" if self._characters else "words": length, "alignment": pairs}
        return Scored(errors / max(length, 1), (errors, length), detail)


class Bleu:
    """BLEU of sacrebleu, 0 to 100; an answer's own with effective order, the total over the corpus."""

    libraries = ("sacrebleu",)
    unit = ""

    def __init__(self, tokenize: str) -> None:
        """`tokenize` is 13a, zh or ja-mecab."""
        self._tokenize = tokenize
        self._references = set[int]()  # how many an answer has

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored:
        """The n-grams that are right, for orders 1 to 4, and the lengths."""
        del language
        self._references.add(len(references))
        found = self._metric.sentence_score(answer.text, list(references))
        return Scored(found.score, (*found.counts, *found.totals, found.sys_len, found.ref_len))

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """Sacrebleu's signature of the total."""
        from sacrebleu.metrics import BLEU

        del languages
        metric = BLEU(tokenize=self._tokenize)
        metric.num_refs = max(self._references, default=0) if len(self._references) < 2 else -1  # -1: it varies
        return {"signature": str(metric.get_signature())}

    def total(self, stats: Float64) -> float:
        """As sacrebleu's corpus_score: the sums of the n-grams."""
        from sacrebleu.metrics import BLEU

        sums = [int(one) for one in stats.sum(0)]
        found = BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp")
        return float(found.score)

    @property
    def _metric(self) -> Any:
        return _bleu(self._tokenize)


@cache
def _bleu(tokenize: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenize, effective_order=True)


class Share:
    """The share of answers that are right: the same as a reference, or `within`: a reference stands in the answer.

    `only` names the references that count, as in yes and no.
    """

    libraries = ("whisper_normalizer",)
    unit = "%"

    def __init__(self, *, within: bool = False, only: Sequence[str] = ()) -> None:
        """See the class."""
        self._within, self._only = within, only

    def score(self, answer: Answer, references: Sequence[str], language: str) -> Scored | None:
        """1 or 0; None where the references do not count."""
        wanted = [normal(one, language) for one in references]
        if self._only and not set(wanted) <= set(self._only):
            return None
        found = normal(answer.text, language)
        right = any(one == found or (self._within and f" {one} " in f" {found} ") for one in wanted)
        return Scored(float(right), (float(right), 1.0))

    def method(self, languages: Sequence[str]) -> dict[str, Any]:
        """The normaliser of each language."""
        return normalizers(languages)

    def total(self, stats: Float64) -> float:
        """Right ones by all."""
        return _ratio(stats.sum(0))


def _ratio(sums: Float64) -> float:
    """What silence has instead of words: every word is one too many."""
    return float(sums[0] / max(sums[1], 1))
