"""The greedy loop: what the decoder would say next, one id at a time, for one prompt or for many side by side.

In: a decoder and requests, each with a prompt's ids and clips. Out: an `Event` for each new id, the stop id not among
them. There is one loop, `generate_many`; `generate` is one request of it. Ties go to the lowest id, so that an answer
is the same on every run, and a row of the decoder knows nothing of the others, so that it is the same in any company.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decoder.contract import Float32
from decoder.decoder import Decoder, PromptError
from decoder.drafts import LONGEST, Drafts, Guess
from models.manifest import DecoderSizes

# A loop is one n-gram of at most LOOP_LONGEST ids, said LOOP_TIMES times or more, in LOOP_LEAST ids or more. No chorus
# is one: it would have to fill the 30 seconds that a model hears with over three ids a second, and nothing else.
LOOP_LONGEST, LOOP_TIMES, LOOP_LEAST = 32, 8, 96
# The time of a run of 2, 4, 6 and 8 ids, guesses among them, against that of one [measured on the full model in int4,
# that of 6 between its neighbours; int8 is near]: from about there on each more costs as much. They go in pairs.
RUN_COSTS = (1.0, 1.3, 1.55, 1.8)
RUN = 2 * len(RUN_COSTS)
# Ids that would come in the time of one run anyway: a longer run must bring more than its time does elsewhere.
WORTH = 1.6


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
    """A request in its row, and what was said so far."""

    request: Request
    new_ids: list[int] = field(default_factory=list)

    def guess(self, drafts: Drafts, room: int, others: int) -> list[Guess]:
        """Ids that may come next, as many as pay in a run of `others` ids: at most `room`, nor than are wanted."""
        most = min(room, self.request.max_new_tokens - len(self.new_ids) - 1)
        guesses = list(drafts.after([*self.request.ids[-LONGEST:], *self.new_ids], most))
        best, kept, gain = 0.0, 0, 0.0
        for number, guess in enumerate(guesses, 1):
            gain += guess.chance
            paid = gain - WORTH * (_run_cost(others + number) - _run_cost(others))
            if paid >= best:
                best, kept = paid, number
        return guesses[:kept]

    def take(self, logits: Float32, *, is_full: bool) -> Event:
        """The likeliest id of `logits` [vocab], and whether it is the last; `is_full`: the context has no more room."""
        request, new_id = self.request, int(np.argmax(logits))
        if new_id in request.stop_ids:
            return Event(request.key, finish_reason="stop")
        self.new_ids.append(new_id)
        reason = None
        if len(self.new_ids) >= request.max_new_tokens or is_full:
            reason = "length"
        elif request.stop_loops and is_loop(self.new_ids):
            reason = "loop"
        elif _is_late(request):
            reason = "timeout"
        return Event(request.key, new_id, reason)


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
            if drafts:
                drafts.read(_words(request.ids, decoder.sizes))
            yield _start(decoder, _choose_row(decoder, answers, request), _Answer(request), answers)
        if not answers:
            return
        guesses = _guesses(decoder, answers, drafts) if drafts else {}
        runs = {
            row: [answer.new_ids[-1], *(guess.token_id for guess in guesses.get(row, ()))]
            for row, answer in answers.items()
        }
        before = tuple(decoder.positions)
        logits = decoder.extend(runs)
        for row, answer in sorted(answers.items()):
            room, held = decoder.sizes.max_positions - before[row], 0
            for event in _held(answer, runs[row], logits[row], room):
                held += 1
                if event.finish_reason:
                    del answers[row]
                    if drafts:
                        drafts.remember([*answer.request.ids[-LONGEST:], *answer.new_ids])
                yield event
            if held < len(runs[row]):
                decoder.rewind(before[row] + held, row)


def _guesses(decoder: Decoder, answers: dict[int, _Answer], drafts: Drafts) -> dict[int, list[Guess]]:
    """For each row, ids that may come next, as far as there is room for them in a run and in the context."""
    share, largest = RUN // len(answers) - 1, decoder.sizes.max_positions
    found: dict[int, list[Guess]] = {}
    together = len(answers)
    for row, answer in answers.items():
        found[row] = answer.guess(drafts, min(share, largest - decoder.positions[row] - 1), together)
        together += len(found[row])
    return found


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


def _held(answer: _Answer, run: Sequence[int], logits: Float32, room: int) -> Iterator[Event]:
    """The new ids of a run [t] by its logits [t, vocab], as far as its guesses, all but the first of `run`, hold.

    `room` is how many more positions the context had before the run.
    """
    for number, row in enumerate(logits, 1):
        event = answer.take(row, is_full=number == room)
        yield event
        if event.finish_reason or number == len(run) or event.token_id != run[number]:
            return


def is_loop(ids: Sequence[int]) -> bool:
    """Whether `ids` end in one n-gram, repeated more often than anyone would say it (the constants above)."""
    for n in range(1, LOOP_LONGEST + 1):
        length = n * max(LOOP_TIMES, -(-LOOP_LEAST // n))
        if length > len(ids):
            continue
        if ids[-1] == ids[-1 - n] and ids[-length + n :] == ids[-length:-n]:
            return True
    return False


def _start(decoder: Decoder, row: int, answer: _Answer, answers: dict[int, _Answer]) -> Event:
    """Prefill a request into its row and take its first id; it joins `answers` unless that was all."""
    request = answer.request
    if request.max_new_tokens < 1:
        return Event(request.key, finish_reason="length")
    if _is_late(request):
        return Event(request.key, finish_reason="timeout")
    reuse = request.group is not None and request.group == decoder.groups[row]
    try:
        logits = decoder.prefill(request.ids, request.clips, row=row, reuse=reuse)
    except PromptError as error:
        return Event(request.key, error=error)
    decoder.groups[row] = request.group
    event = answer.take(logits, is_full=_is_full(decoder, row))
    if not event.finish_reason:
        answers[row] = answer
    return event


def _choose_row(decoder: Decoder, answers: dict[int, _Answer], request: Request) -> int:
    """A free row: the first whose last request was of this one's group, else the first."""
    free = [row for row in range(decoder.rows) if row not in answers]
    return next((row for row in free if request.group is not None and decoder.groups[row] == request.group), free[0])


def _is_full(decoder: Decoder, row: int) -> bool:
    return decoder.positions[row] == decoder.sizes.max_positions


def _is_late(request: Request) -> bool:
    return request.deadline is not None and time.monotonic() >= request.deadline
