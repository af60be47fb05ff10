"""The greedy loop: what the decoder would say next, one id at a time, for one prompt or for many side by side.

In: a decoder and requests, each with a prompt's ids and clips. Out: an `Event` for each new id, the stop id not among
them. There is one loop, `generate_many`; `generate` is one request of it. Ties go to the lowest id, so that an answer
is the same on every run, and a row of the decoder knows nothing of the others, so that it is the same in any company.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
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
# The time of a run of 2, 4, 6 and 8 ids, guesses among them, against that of one [measured on the full model in int4,
# that of 6 between its neighbours; int8 is near]: from about there on each more costs as much. They go in pairs.
RUN_COSTS = (1.0, 1.3, 1.55, 1.8)
RUN = 2 * len(RUN_COSTS)
# What each guess adds to the run of a prompt, as a share of the time of one id's run [measured likewise], and the most.
PROMPT_COST, PROMPT_GUESSES = 0.18, 15
# Ids that would come in the time of one run anyway: a longer run must bring more than its time does elsewhere.
WORTH = 1.8


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt to be answered: `ids`, and embeddings [span, d_model] of its `clips`, as `Decoder.prefill` takes them.

    At most `max_new_tokens` ids come; the first one after the time `deadline` of `time.monotonic` is the last. Requests
    of one `group` belong together, be it prompts about a sound or turns of a dialogue: if a row's last request was of
    it, what both begin with is not run again. `stop_loops` ends an answer that repeats itself without end.
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
    """A new id of the request `key`, or its end, or both.

    The last event of a request has a `finish_reason`: "stop" (one of its stop ids, which is not shown), "length" (as
    many ids as asked for, or the context is full), "loop" (the ids that repeat were all shown) or "timeout"; or it has
    an `error`, for a prompt that the model cannot take.
    """

    key: Any
    token_id: int | None = None
    finish_reason: str | None = None
    error: PromptError | None = None


@dataclass
class _Answer:
    """A request in its row, what was said so far, and whether that was all."""

    request: Request
    row: int
    new_ids: list[int] = field(default_factory=list)
    ended: bool = False

    def guess(self, drafts: Drafts, room: int, cost: Callable[[int], float]) -> list[int]:
        """Ids that may follow, at most `room` and no more than are wanted: as many as pay for `cost(number)` runs."""
        most = min(room, self.request.max_new_tokens - len(self.new_ids) - 1)
        guesses = list(drafts.after([*self.request.ids[-LONGEST:], *self.new_ids], most))
        best, kept, gain = 0.0, 0, 0.0
        for number, guess in enumerate(guesses, 1):
            gain += guess.chance
            paid = gain - WORTH * cost(number)
            if paid >= best:
                best, kept = paid, number
        return [guess.token_id for guess in guesses[:kept]]

    def take(self, logits: Float32, *, is_full: bool) -> Event:
        """The likeliest id of `logits` [vocab], and whether it is the last; `is_full`: the context has no more room."""
        request, new_id = self.request, int(np.argmax(logits))
        if new_id in request.stop_ids:
            return self.end("stop")
        self.new_ids.append(new_id)
        if len(self.new_ids) >= request.max_new_tokens or is_full:
            return self.end("length", new_id)
        if request.stop_loops and is_loop(self.new_ids):
            return self.end("loop", new_id)
        if _is_late(request):
            return self.end("timeout", new_id)
        return Event(request.key, new_id)

    def end(self, reason: str | None, token_id: int | None = None, error: PromptError | None = None) -> Event:
        """The last event."""
        self.ended = True
        return Event(self.request.key, token_id, reason, error)


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


def generate_many(decoder: Decoder, requests: Iterator[Request], *, guessing: bool = True) -> Iterator[Event]:
    """Answer requests, as many at a time as the decoder has rows; yields the events of each in order, others between.

    The iterator is asked for the next request only when a row is free for it, and a free row takes it at once. A prompt
    that the model cannot take ends no other; what the iterator or the backend (BackendError) raises ends all. With
    `guessing`, a run takes in what earlier answers and prompts let expect, too: the same ids come, earlier.
    """
    answers: dict[int, _Answer] = {}  # by row
    drafts = Drafts() if guessing and decoder.takes_back_freely else None
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
        guesses = _guesses(decoder, answers, drafts) if drafts else {}
        logits = decoder.extend({row: [answer.new_ids[-1], *guesses.get(row, ())] for row, answer in answers.items()})
        for row, answer in sorted(answers.items()):
            yield from _take(decoder, answer, guesses.get(row, ()), logits[row], drafts)
            if answer.ended:
                del answers[row]


def _start(decoder: Decoder, answer: _Answer, drafts: Drafts | None) -> Iterator[Event]:
    """Prefill a request into its row, with guesses of its answer, and take what comes."""
    request, row = answer.request, answer.row
    if request.max_new_tokens < 1:
        yield answer.end("length")
        return
    if _is_late(request):
        yield answer.end("timeout")
        return
    guesses: list[int] = []
    if drafts:
        room = min(PROMPT_GUESSES, decoder.sizes.max_positions - len(request.ids))
        guesses = answer.guess(drafts, room, partial(_prompt_cost, decoder.rows))
    reuse = request.group is not None and request.group == decoder.groups[row]
    try:
        logits = decoder.begin(request.ids, request.clips, guesses, row=row, reuse=reuse)
    except PromptError as error:
        yield answer.end(None, error=error)
        return
    decoder.groups[row] = request.group
    if drafts:
        drafts.read(_words(request.ids, decoder.sizes))
    yield from _take(decoder, answer, guesses, logits, drafts)


def _take(
    decoder: Decoder, answer: _Answer, guesses: Sequence[int], logits: Float32, drafts: Drafts | None
) -> Iterator[Event]:
    """The events of a run that ended in `guesses`, by its last logits [1 + guesses, vocab], as far as they hold."""
    sure = decoder.positions[answer.row] - len(guesses)
    for held, after in enumerate(logits):
        event = answer.take(after, is_full=sure + held == decoder.sizes.max_positions)
        if drafts and answer.ended:
            drafts.remember([*answer.request.ids[-LONGEST:], *answer.new_ids])
        yield event
        if answer.ended or held == len(guesses) or event.token_id != guesses[held]:
            break
    if held < len(guesses):
        decoder.rewind(sure + held, answer.row)


def _guesses(decoder: Decoder, answers: dict[int, _Answer], drafts: Drafts) -> dict[int, list[int]]:
    """For each row, ids that may come next, as far as there is room for them in a run and in the context."""
    share, largest = RUN // len(answers) - 1, decoder.sizes.max_positions
    found: dict[int, list[int]] = {}
    together = len(answers)
    for row, answer in answers.items():
        room = min(share, largest - decoder.positions[row] - 1)
        found[row] = answer.guess(drafts, room, partial(_more_cost, together))
        together += len(found[row])
    return found


def _prompt_cost(rows: int, guesses: int) -> float:
    """What guesses add to a prompt's run; the ids of so many rows would come in less time elsewhere."""
    return guesses * PROMPT_COST * max(1, rows / _run_cost(rows) / WORTH)


def _more_cost(ids: int, more: int) -> float:
    """What `more` ids add to a run of so many."""
    return _run_cost(ids + more) - _run_cost(ids)


def _run_cost(ids: int) -> float:
    return RUN_COSTS[min((ids + 1) // 2, len(RUN_COSTS)) - 1]


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
