"""New ids, one by one -> the text of the answer, in whole characters, as soon as they are certain."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from errors import PromptError

if TYPE_CHECKING:
    from tokenizer.tokenizer import Tokenizer

_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()


class TextStream:
    """The text of one answer as its ids come: ``push`` each, then ``end``; the pieces join to the stripped text.

    A character whose bytes are not all there is held back, and so is white space, which may be the end of the answer.
    The ids are the answer's own, without the id that stopped it. An id that the vocabulary does not have (the real
    model has 782 rows of logits to spare) becomes U+FFFD, where ``decode`` raises: an answer under way is not lost.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # white space that is dropped if nothing follows it
        self._begun = False

    def push(self, token_id: int) -> str:
        """What is certain now and was not before; often nothing."""
        return self._certain(self._decoder.decode(_bytes(self._tokenizer, token_id)))

    def end(self) -> str:
        """What was held back and is part of the answer after all."""
        return self._certain(self._decoder.decode(b"", final=True))

    def _certain(self, new: str) -> str:
        text = self._held + new
        if not self._begun:
            text = text.lstrip()
        certain = text.rstrip()
        self._held = text[len(certain) :]
        self._begun = self._begun or bool(certain)
        return certain


def _bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    try:
        return tokenizer.token_bytes(token_id)
    except PromptError:
        return _UNKNOWN
