"""The greedy loop: what the decoder would say next, one id at a time, for one prompt or for many side by side.

In: a decoder and requests, each with a prompt's ids and clips. Out: an `Event` for each new id but the stop id. There
is one loop, `generate_many`; `generate` is one request of it. An answer is the same on every run, since ties go to the
lowest id. It is the same in any company, since a row of the decoder knows nothing of the others.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decoder.decoder import Decoder
from decoder.graph_inputs import Float32
from decoder.speculation import LONGEST, Drafts
from errors import PromptError
from models.manifest import DecoderSizes

# A loop is one n-gram of at most LOOP_LONGEST ids, said LOOP_TIMES times or more, in LOOP_LEAST ids or more. No chorus
# is one: it would have to fill the 30 seconds that a model hears with over three ids a second, and nothing else.
LOOP_LONGEST, LOOP_TIMES, LOOP_LEAST = 32, 8, 96


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt to be answered: `ids`, and embeddings [span, d_model] of its `clips`, as `Decoder.prefill` takes them.

    At most `max_new_tokens` ids come; the first one after the time `deadline` of `time.monotonic` is the last. Requests
    of one `group` belong together, such as prompts about a sound or turns of a dialogue. If a row's last request was of
    the same group, the ids that both begin with are not run again. `stop_loops` ends an answer that repeats itself.
    """

    key: Any  # the caller's own; it comes back with each event
    ids: Sequence[int]
    clips: Sequence[Float32]
    stop_ids: Collection[int]
    max_new_tokens: int
    deadline: float | None = None
    group: Hashable = None
    stop_loops: bool = True


@dataclass(frozen=True)
class Event:
    """A new id of the request `key`, with the natural logarithm of its probability, or its end, or both.

    The last event of a request has a `finish_reason`: "stop" (one of its stop ids, which is not shown), "length" (as
    many ids as asked for, or the context is full), "loop" (the ids that repeat were all shown) or "timeout"; or it has
    an `error`, for a prompt that the model cannot take.
    """

    key: Any
    token_id: int | None = None
    finish_reason: str | None = None
    error: PromptError | None = None
    log_prob: float = field(default=0.0, compare=False)

    @property
    def is_last(self) -> bool:
        """Whether the request has ended."""
        return self.finish_reason is not None or self.error is not None


@dataclass
class _Answer:
    """A request in its row, what was said so far, and whether that was all."""

    request: Request
    row: int
    new_ids: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def end_ids(self) -> list[int]:
        """The end of the prompt and what was said so far: as much as draft tokens are looked up by."""
        return [*self.request.ids[-LONGEST:], *self.new_ids]

    def wanted(self, room: int) -> int:
        """How many draft tokens there is room for, and a use."""
        return min(room, self.request.max_new_tokens - len(self.new_ids) - 1)

    def take(self, logits: Float32, *, is_full: bool) -> Event:
        """The likeliest id of `logits` [vocab], and whether it is the last; `is_full`: the context has no more room."""
        request, new_id = self.request, int(np.argmax(logits))
        if new_id in request.stop_ids:
            return self.end("stop")
        self.new_ids.append(new_id)
        log_prob = -float(
            np.log(np.exp(logits - logits[new_id], dtype=np.float64).sum())
        )  # the largest, so no overflow
        if len(self.new_ids) >= request.max_new_tokens or is_full:
            return self.end("length", new_id, log_prob=log_prob)
        if request.stop_loops and is_loop(self.new_ids):
            return self.end("loop", new_id, log_prob=log_prob)
        if _is_late(request):
            return self.end("timeout", new_id, log_prob=log_prob)
        return Event(request.key, new_id, log_prob=log_prob)

    def end(self, reason: str | None, token_id: int | None = None, **others: Any) -> Event:
        """The last event."""
        self.ended = True
        return Event(self.request.key, token_id, reason, **others)


def generate(
    decoder: Decoder,
    ids: Sequence[int],
    clips: Sequence[Float32],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> Iterator[int]:
    """Yield at most `max_new_tokens` new ids after `ids`, greedily; ends before yielding one of `stop_ids`.

    Also ends when the model's context is full, but not for a loop. No forward pass is made whose result is not used.
    Raises PromptError for a prompt that the model cannot take.
    """
    request = Request(None, ids, clips, stop_ids, max_new_tokens, stop_loops=False)
    for event in generate_many(decoder, iter([request])):
        if event.error:
            raise event.error
        if event.token_id is not None:
            yield event.token_id


def generate_many(decoder: Decoder, requests: Iterator[Request], *, speculate: bool = True) -> Iterator[Event]:
    """Answer requests, as many at a time as the decoder has rows; yields the events of each in order, others between.

    The iterator is asked for the next request only when a row is free for it, and a free row takes it at once. A prompt
    that the model cannot take ends no other; what the iterator or the backend (BackendError) raises ends all. With
    `speculate`, a run takes in draft tokens too: the same ids come, earlier.
    """
    answers: dict[int, _Answer] = {}  # by row
    drafts = Drafts() if speculate and decoder.takes_back_freely else None
    waiting = True
    while True:
        while waiting and len(answers) < decoder.rows:
            request = next(requests, None)
            if request is None:
                waiting = False
                break
            answer = _Answer(request, _choose_row(decoder, answers, request))
            yield from _start(decoder, answer, drafts)
            if not answer.ended:
                answers[answer.row] = answer
        if not answers:
            return
        drafted = _drafts(decoder, answers, drafts) if drafts else {}
        logits = decoder.extend({row: [answer.new_ids[-1], *drafted.get(row, ())] for row, answer in answers.items()})
        for row, answer in sorted(answers.items()):
            yield from _take(decoder, answer, drafted.get(row, ()), logits[row], drafts)
            if answer.ended:
                del answers[row]


def _start(decoder: Decoder, answer: _Answer, drafts: Drafts | None) -> Iterator[Event]:
    """Prefill a request into its row, with draft tokens of its answer, and take what comes."""
    request, row = answer.request, answer.row
    if request.max_new_tokens < 1:
        yield answer.end("length")
        return
    if _is_late(request):
        yield answer.end("timeout")
        return
    drafted: list[int] = []
    if drafts:
        room = decoder.sizes.max_positions - len(request.ids)
        drafted = drafts.for_prompt(answer.end_ids, answer.wanted(room), rows=decoder.rows)
    reuse = request.group is not None and request.group == decoder.groups[row]
    try:
        logits = decoder.begin(request.ids, request.clips, drafted, row=row, reuse=reuse)
    except PromptError as error:
        yield answer.end(None, error=error)
        return
    decoder.groups[row] = request.group
    if drafts:
        drafts.read(_words(request.ids, decoder.sizes))
    yield from _take(decoder, answer, drafted, logits, drafts)


def _take(
    decoder: Decoder, answer: _Answer, drafted: Sequence[int], logits: Float32, drafts: Drafts | None
) -> Iterator[Event]:
    """The events of a run that ended in `drafted`, as far as its last `logits` [1 + drafted, vocab] bear them out."""
    sure = decoder.positions[answer.row] - len(drafted)
    for held, after in enumerate(logits):
        event = answer.take(after, is_full=sure + held == decoder.sizes.max_positions)
        if drafts and answer.ended:
            drafts.remember(answer.end_ids)
        yield event
        if answer.ended or held == len(drafted) or event.token_id != drafted[held]:
            break
    if held < len(drafted):
        decoder.rewind(sure + held, answer.row)


def _drafts(decoder: Decoder, answers: dict[int, _Answer], drafts: Drafts) -> dict[int, list[int]]:
    """For each row, ids that may come next, as far as there is room for them in a run and in the context."""
    found: dict[int, list[int]] = {}
    taken = len(answers)
    for row, answer in answers.items():
        room = decoder.sizes.max_positions - decoder.positions[row] - 1
        found[row] = drafts.for_run(answer.end_ids, answer.wanted(room), taken=taken, rows=len(answers))
        taken += len(found[row])
    return found


def _words(ids: Sequence[int], sizes: DecoderSizes) -> list[int]:
    """A prompt without what stands for its clips: their lengths differ from file to file."""
    found, inside = [], False
    for token_id in ids:
        inside = (inside or token_id == sizes.audio_start) and token_id != sizes.audio_end
        if not inside:
            found.append(token_id)
    return found


def is_loop(ids: Sequence[int]) -> bool:
    """Whether `ids` end in one n-gram, repeated more often than anyone would say it (the constants above)."""
    for n in range(1, LOOP_LONGEST + 1):
        length = n * max(LOOP_TIMES, -(-LOOP_LEAST // n))
        if length > len(ids):
            continue
        if ids[-1] == ids[-1 - n] and ids[-length + n :] == ids[-length:-n]:
            return True
    return False


def _choose_row(decoder: Decoder, answers: dict[int, _Answer], request: Request) -> int:
    """A free row: the first whose last request was of this one's group, else the first."""
    free = [row for row in range(decoder.rows) if row not in answers]
    return next((row for row in free if request.group is not None and decoder.groups[row] == request.group), free[0])


def _is_late(request: Request) -> bool:
    return request.deadline is not None and time.monotonic() >= request.deadline
