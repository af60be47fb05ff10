"""New ids, one by one -> the text of the answer, in whole characters, as soon as they are certain."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from tokenizer.tokenizer import TokenizerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokenizer.tokenizer import Tokenizer

_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Yield pieces of text, none empty, that join to ``tokenizer.decode(ids).strip()``.

    A character whose bytes are not all there is held back, and so is white space, which may be the end of the answer.
    ``ids`` are the answer's own, without the id that stopped it. An id that the vocabulary does not have (the real
    model has 782 rows of logits to spare) becomes U+FFFD, where ``decode`` raises: an answer under way is not lost.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""  # white space that is dropped if nothing follows it
    begun = False
    for token_id in _with_end(ids):
        text = held + decoder.decode(_bytes(tokenizer, token_id), final=token_id is None)
        if not begun:
            text = text.lstrip()
        certain = text.rstrip()
        held = text[len(certain) :]
        if certain:
            begun = True
            yield certain


def _with_end(ids: Iterable[int]) -> Iterator[int | None]:
    yield from ids
    yield None


def _bytes(tokenizer: Tokenizer, token_id: int | None) -> bytes:
    if token_id is None:
        return b""
    try:
        return tokenizer.token_bytes(token_id)
    except TokenizerError:
        return _UNKNOWN
