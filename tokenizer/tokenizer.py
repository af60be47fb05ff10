"""Text <-> ids: byte-level BPE over a ``qwen.tiktoken`` vocabulary, with Qwen-Audio's special tokens after its ranks.

Ids are token ids of one vocabulary file; 0 .. n_ranks - 1 are byte strings, the next 3,522 are special. The merging is
tiktoken's. This room knows no prompt format (chat.py), no streaming (stream.py) and nothing of our other packages.
"""

from __future__ import annotations

import binascii
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from errors import ModelError, PromptError
from tokenizer.special_tokens import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    ENDOFTEXT,
    IM_END,
    IM_START,
    audio_tokens,
    special_tokens,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

Special = Literal["none", "audio", "all"]

# Where a text is split before merging; the first alternative that matches wins.
PIECES = "|".join(  # noqa: FLY002 - one alternative a line
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",  # English endings; case folding lets the long s in too
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word, with one leading character that is not a letter, number or line end
        r"\p{N}",  # numbers digit by digit
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation, with a space before and the line ends after it
        r"\s*[\r\n]+",  # blank lines
        r"\s+(?!\S)",  # spaces, but the last one goes with the next word
        r"\s+",
    )
)
_FIX = "fetch the model again, or give the qwen.tiktoken that came with it"


class Tokenizer:
    """One vocabulary: ``encode`` text to ids, ``decode`` ids to text, and the ids that prompts are built with."""

    def __init__(self, vocab_path: str | os.PathLike[str]) -> None:
        """Read a vocabulary file: per line the base64 of a token's bytes, a space and its rank, in rank order.

        Raises ModelError, with the file, the line and the fix, if it is missing or not such a file.
        """
        import tiktoken  # here, as --help does not need it

        ranks = _read_ranks(Path(vocab_path))
        specials = {token: len(ranks) + i for i, token in enumerate(special_tokens())}
        self._bpe = tiktoken.Encoding("qwen-audio", pat_str=PIECES, mergeable_ranks=ranks, special_tokens=specials)
        self._bytes = [*ranks, *(token.encode() for token in specials)]  # by id
        self._recognised = {"none": set[str](), "audio": set(audio_tokens()), "all": set(specials)}
        self.endoftext, self.im_start, self.im_end = specials[ENDOFTEXT], specials[IM_START], specials[IM_END]
        self.audio_start, self.audio_pad = specials[AUDIO_START], specials[AUDIO_PAD]
        self.audio_end = specials[AUDIO_END]

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included; a model's logits may have more rows."""
        return len(self._bytes)

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer: <|im_end|>, <|im_start|>, <|endoftext|>."""
        return frozenset((self.im_end, self.im_start, self.endoftext))

    def encode(self, text: str, *, special: Special = "none") -> list[int]:
        """Turn text, NFC-normalised first, into ids; nothing is added in front or behind.

        ``special``: which special strings in the text become their ids. ``none``: all is ordinary text; ``audio``: the
        audio family (<|en|>, <|1.00|>, <audio>, ...), as in the original's chat; ``all``: <|im_start|> and so on too.
        Lone surrogates, which undecodable bytes on a command line become, are encoded as U+FFFD.
        Raises PromptError for a text that cannot be split, such as a million spaces in a row.
        """
        text = unicodedata.normalize("NFC", text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        allowed = self._recognised[special]
        try:
            return self._bpe.encode(text, allowed_special=allowed, disallowed_special=())
        except ValueError as error:
            raise PromptError(f"the text cannot be split ({error})", fix="shorten its runs of white space") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Join the tokens' bytes and read them as UTF-8; what is not UTF-8 becomes U+FFFD.

        Special tokens stand as their strings. Raises PromptError for an id that the vocabulary does not have.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Give the bytes of one token, often a part of a character. Raises PromptError for an unknown id."""
        if not 0 <= token_id < len(self._bytes):
            raise PromptError(f"token id {token_id} is not in the vocabulary (0 to {len(self._bytes) - 1})", fix=_FIX)
        return self._bytes[token_id]


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Read token bytes -> rank, in rank order."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ModelError(f"{path}: the vocabulary cannot be read ({error.strerror})", fix=_FIX) from None
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            token, rank = line.split()
            ranks[binascii.a2b_base64(token, strict_mode=True)] = int(rank)
        except ValueError:  # binascii.Error is one
            raise ModelError(f"{path}: line {number} is not a base64 token and its rank", fix=_FIX) from None
        if int(rank) != number - 1 or len(ranks) != number:  # a token given twice leaves the dict one short
            raise ModelError(f"{path}: line {number} must be a new token of rank {number - 1}", fix=_FIX)
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ModelError(f"{path}: no token for the byte 0x{missing[0]:02x} in {len(lines)} lines", fix=_FIX)
    return ranks
