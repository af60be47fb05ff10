"""Turns of a conversation, or the base model's prompt -> prompt ids, with one run of ids in the place of each clip.

The clips themselves are elsewhere: here an audio is its span, the number of embeddings that will stand in its place
(audio tokens + 2 boundary rows). The k-th run of <audio>, pads, </audio> in the ids is the k-th clip of the kept turns.

Content is encoded as the original's chat does it: the audio family (<|en|>, <|transcribe|>, <|1.00|>, ...) is let
through as special tokens, while typed <|im_start|>, <|im_end|>, <|endoftext|> and <|extra_0|> stay ordinary text. Two
tags would say where a clip is: a typed <audio> is refused, since no clip belongs to it (the original opens the file it
names, or crashes); a typed </audio> becomes its token, as in the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from errors import PromptError
from tokenizer.special_tokens import AUDIO_START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizer.tokenizer import Tokenizer

SYSTEM = "You are a helpful assistant."
MAX_WINDOW_SIZE = 6_144  # ids of system and history together, from the chat model's generation_config.json


@dataclass(frozen=True)
class Turn:
    """What the user said, with the spans of the clips it is about, and the answer if there was one already."""

    text: str
    audio_spans: Sequence[int] = ()  # audio tokens + 2 of each clip
    reply: str | None = None


def encode_chat(
    tokenizer: Tokenizer,
    turns: Sequence[Turn],
    *,
    system: str = SYSTEM,
    max_window_size: int = MAX_WINDOW_SIZE,
) -> list[int]:
    """Give the ids of a ChatML conversation, up to where the answer to the last turn begins.

    The last turn is the query, its reply is None; those before it are the history. History that exceeds the window is
    left out, oldest first (``dropped_turns`` says how much: the clips of those turns must be left out too). The query
    is never cut. Raises PromptError for a text with <audio> in it, ValueError without turns or with a
    reply to the query.
    """
    if not turns or turns[-1].reply is not None:
        raise ValueError("the last turn is the query: there must be one, and it has no reply yet")
    dropped = dropped_turns(tokenizer, turns, system=system, max_window_size=max_window_size)
    ids = _block(tokenizer, "system", _encode_text(tokenizer, system))
    for turn in turns[dropped:-1]:
        ids += _history_turn(tokenizer, turn)
    newline = _newline(tokenizer)
    return ids + newline + _user_block(tokenizer, turns[-1]) + newline + _open_block(tokenizer, "assistant")


def dropped_turns(
    tokenizer: Tokenizer,
    turns: Sequence[Turn],
    *,
    system: str = SYSTEM,
    max_window_size: int = MAX_WINDOW_SIZE,
) -> int:
    """Say how many of the oldest turns ``encode_chat`` leaves out: ``turns[dropped:]`` are in the prompt.

    From the newest back, a turn stays while it, what stays already and the system block are under ``max_window_size``
    ids; the query does not count. At the first turn that does not fit, all older ones go too.
    """
    used = len(_block(tokenizer, "system", _encode_text(tokenizer, system)))
    for kept, turn in enumerate(reversed(turns[:-1])):
        used += len(_history_turn(tokenizer, turn))
        if used >= max_window_size:
            return len(turns) - 1 - kept
    return 0


def encode_base(tokenizer: Tokenizer, text: str, *, audio_spans: Sequence[int] = ()) -> list[int]:
    """Give the ids of the base model's raw prompt: the clips in order, then the text with its task tags.

    The original lets all special strings through here. We let through the audio family only: what a user types must not
    become <|im_start|>, <|im_end|> or <|endoftext|>. Raises PromptError for a text with <audio> in it.
    """
    ids = [token_id for span in audio_spans for token_id in _audio_ids(tokenizer, span)]
    return ids + _encode_text(tokenizer, text)


def _history_turn(tokenizer: Tokenizer, turn: Turn) -> list[int]:
    newline = _newline(tokenizer)
    ids = newline + _user_block(tokenizer, turn) + newline
    if turn.reply is None:  # the original leaves the newline, so that two stand in a row
        return ids
    return ids + _block(tokenizer, "assistant", _encode_reply(tokenizer, turn.reply))


def _user_block(tokenizer: Tokenizer, turn: Turn) -> list[int]:
    """``Audio 1:<clip>``, newline, ``Audio 2:<clip>``, newline, text; between two clips stands one string."""
    content: list[int] = []
    line_end = ""
    for number, span in enumerate(turn.audio_spans, start=1):
        content += tokenizer.encode(f"{line_end}Audio {number}:") + _audio_ids(tokenizer, span)
        line_end = "\n"
    return _block(tokenizer, "user", content + _encode_text(tokenizer, line_end + turn.text))


def _block(tokenizer: Tokenizer, role: str, content: list[int]) -> list[int]:
    return [*_open_block(tokenizer, role), *content, tokenizer.im_end]


def _open_block(tokenizer: Tokenizer, role: str) -> list[int]:
    return [tokenizer.im_start, *tokenizer.encode(role), *_newline(tokenizer)]


def _newline(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode("\n")


def _audio_ids(tokenizer: Tokenizer, span: int) -> list[int]:
    assert span >= 2, span  # the two boundary rows
    return [tokenizer.audio_start, *[tokenizer.audio_pad] * (span - 2), tokenizer.audio_end]


def _encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text, special="audio")
    if tokenizer.audio_start in ids:
        raise PromptError(f"the text has {AUDIO_START} in it, which stands for a clip", fix="pass clips with --input")
    return ids


def _encode_reply(tokenizer: Tokenizer, reply: str) -> list[int]:
    """Encode an earlier answer; the original crashes on a generated <audio>, here it is ordinary text."""
    first, *others = reply.split(AUDIO_START)
    ids = tokenizer.encode(first, special="audio")
    for other in others:
        ids += tokenizer.encode(AUDIO_START) + tokenizer.encode(other, special="audio")
    return ids
