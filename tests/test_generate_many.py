"""Many answers side by side: each is the one that its request gets alone, and ends in its own way."""

import itertools

import numpy as np
import pytest

from decoder import generate as module
from decoder.decoder import Decoder
from decoder.generate import LOOP_LEAST, LOOP_LONGEST, Event, Request, generate_many, is_loop
from errors import BackendError, PromptError
from tests.scripted_decoder import UNKNOWN, ScriptedDecoder
from tests.tiny_models import ONNX_RUNTIME, greedy, make_mels, make_prompt, open_decoder, open_encoder

STOP = 99


def ask(key, *ids, n=50, **options):
    """A request whose first id, in a `ScriptedDecoder`, chooses what is said."""
    return Request(key, list(ids) or [key], [], frozenset({STOP}), n, **options)


def answers(events):
    """{key: (its ids, how it ended)}."""
    found = {}
    for event in events:
        new_ids, ended = found.setdefault(event.key, ([], None))
        assert ended is None, "an event behind the last"
        if event.token_id is not None:
            new_ids.append(event.token_id)
        found[event.key] = (new_ids, event.finish_reason or event.error)
    return found


def steps(decoder):
    """Which rows ran together, step by step."""
    return [sorted(call[1]) for call in decoder.calls if call[0] == "advance"]


# --- rows


def test_one_row_answers_one_request_after_another():
    decoder = ScriptedDecoder({1: [7, 8, STOP], 2: [5, STOP]})
    events = list(generate_many(decoder, iter([ask(1), ask(2)])))
    assert events == [
        Event(1, 7), Event(1, 8), Event(1, finish_reason="stop"), Event(2, 5), Event(2, finish_reason="stop"),
    ]  # fmt: skip
    assert steps(decoder) == [[0], [0], [0]]


def test_rows_run_together():
    decoder = ScriptedDecoder({1: [7, 8, STOP], 2: [5, 6, STOP]}, rows=2)
    assert answers(generate_many(decoder, iter([ask(1), ask(2)]))) == {1: ([7, 8], "stop"), 2: ([5, 6], "stop")}
    assert steps(decoder) == [[0, 1], [0, 1]]


def test_a_finished_row_takes_the_next_request_at_once():
    decoder = ScriptedDecoder({1: [7] * 9, 2: [5, STOP], 3: [6] * 9}, rows=2)
    list(generate_many(decoder, iter([ask(1, n=5), ask(2), ask(3, n=3)])))
    assert steps(decoder) == [[0, 1]] * 3 + [[0]]
    assert [call[:3] for call in decoder.calls if call[0] == "prefill"] == [
        ("prefill", 0, [1]), ("prefill", 1, [2]), ("prefill", 1, [3]),
    ]  # fmt: skip


def test_a_request_is_asked_for_when_a_row_is_free():
    decoder, asked = ScriptedDecoder({1: [7] * 9, 2: [5, STOP], 3: [6] * 9}, rows=2), []

    def requests():
        for request in (ask(1, n=5), ask(2), ask(3, n=3)):
            asked.append(len(decoder.calls))
            yield request

    list(generate_many(decoder, requests()))
    assert asked == [0, 1, 3]  # before anything ran, after one prefill, after the step that ended the second


def test_nothing_is_asked_for_before_an_event_is():
    asked = []

    def requests():
        asked.append(1)
        yield from ()

    events = generate_many(ScriptedDecoder({}), requests())
    assert not asked
    assert list(events) == []
    assert asked


def test_no_request_is_no_event():
    assert list(generate_many(ScriptedDecoder({}), iter([]))) == []


def test_fewer_requests_than_rows_leave_rows_idle():
    decoder = ScriptedDecoder({1: [7] * 9}, rows=4)
    assert answers(generate_many(decoder, iter([ask(1, n=3)]))) == {1: ([7] * 3, "length")}
    assert steps(decoder) == [[0], [0]]


def test_rows_stay_where_they_are():
    decoder = ScriptedDecoder({1: [7, STOP], 2: [5] * 9, 3: [STOP], 4: [4] * 9, 5: [3, 3, STOP]}, rows=5)
    found = answers(generate_many(decoder, iter([ask(1), ask(2, n=5), ask(3), ask(4, n=4), ask(5)])))
    assert found == {1: ([7], "stop"), 2: ([5] * 5, "length"), 3: ([], "stop"), 4: ([4] * 4, "length"), 5: ([3, 3], "stop")}  # fmt: skip
    # The third was over at its first id, so that the others stand in rows 0 to 3.
    assert steps(decoder) == [[0, 1, 2, 3], [1, 2, 3], [1, 2], [1]]


# --- how an answer ends


def test_every_reason_to_end():
    decoder = ScriptedDecoder({1: [7, STOP], 2: [7] * 9, 3: list(range(9)), 4: [5, 6] * 99}, max_positions=12)
    requests = [ask(1), ask(2, n=4), ask(3, *range(4, 13)), ask(4, n=0), ask(5, deadline=0.0), ask(6, UNKNOWN)]
    requests[2] = ask(3, 3, *range(8))  # nine positions of twelve are taken
    found = answers(generate_many(decoder, iter(requests)))
    error = found.pop(6)[1]
    assert found == {
        1: ([7], "stop"), 2: ([7] * 4, "length"), 3: ([0, 1, 2, 3], "length"), 4: ([], "length"), 5: ([], "timeout"),
    }  # fmt: skip
    assert isinstance(error, PromptError)
    assert str(UNKNOWN) in str(error)


def test_a_stop_id_is_not_shown_and_goes_first():
    decoder = ScriptedDecoder({1: [STOP]})
    assert list(generate_many(decoder, iter([ask(1, n=1, deadline=np.inf)]))) == [Event(1, finish_reason="stop")]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_prompt_that_cannot_be_taken_ends_no_other(rows):
    decoder = ScriptedDecoder({1: [7, 8, STOP], 2: [5] * 9}, rows=rows)
    found = answers(generate_many(decoder, iter([ask(1), ask("bad", UNKNOWN), ask(2, n=3), ask("worse", UNKNOWN)])))
    assert (found[1], found[2]) == (([7, 8], "stop"), ([5] * 3, "length"))
    assert found["bad"][0] == found["worse"][0] == []
    assert isinstance(found["bad"][1], PromptError)


def test_a_deadline_lets_the_id_in_hand_through_and_ends_only_its_own(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    decoder = ScriptedDecoder({1: [7] * 20, 2: [5] * 20}, rows=2)
    found = answers(generate_many(decoder, iter([ask(1, deadline=3.0), ask(2, n=10)])))
    assert found == {1: ([7] * 3, "timeout"), 2: ([5] * 10, "length")}  # looked at before the prefill and after each id


def test_without_a_deadline_no_clock_is_read(monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", None)
    assert answers(generate_many(ScriptedDecoder({1: [7] * 9}), iter([ask(1, n=3)]))) == {1: ([7] * 3, "length")}


def test_what_the_requests_raise_is_raised():
    def requests():
        yield ask(1, n=2)
        raise OSError("the list is gone")

    events = generate_many(ScriptedDecoder({1: [7] * 9}), requests())
    assert [next(events), next(events)] == [Event(1, 7), Event(1, 7, "length")]
    with pytest.raises(OSError, match="the list is gone"):
        next(events)


def test_what_the_backend_raises_is_raised():
    decoder = ScriptedDecoder({1: [7] * 9})

    def fail(_):
        raise BackendError("out of memory")

    decoder.extend = fail
    with pytest.raises(BackendError, match="out of memory"):
        list(generate_many(decoder, iter([ask(1)])))


# --- loops


@pytest.mark.parametrize("n", range(1, LOOP_LONGEST + 1))
def test_a_loop_is_found_as_soon_as_it_is_one(n):
    rng = np.random.default_rng(n)
    gram, before = list(range(n)), rng.integers(100, 200, 40).tolist()
    needed = n * max(8, -(-LOOP_LEAST // n))
    said = before + gram * (needed // n + 2)
    first = next(end for end in range(len(said)) if is_loop(said[:end]))
    assert first == len(before) + needed


TRUE = {
    "no, no, no, no": [5] * 40,
    "laughter": [5, 6] * 40,
    "a chant, for half a minute": [5, 6, 7] * 15,
    "a chorus": list(range(15)) * 7,
    "digits": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3] * 5,
    "counting": list(range(10)) * 8,
    "times": [part for time in range(100) for part in (900, time, 901, 10)],
    "twice the same poem": list(range(200)) * 2,
}


@pytest.mark.parametrize("what", TRUE)
def test_what_people_say_is_no_loop(what):
    assert not any(is_loop(TRUE[what][:end]) for end in range(len(TRUE[what]) + 1))


def test_a_longer_gram_is_left_to_the_limit():
    assert not is_loop(list(range(LOOP_LONGEST + 1)) * 20)


def test_one_other_id_makes_it_no_loop():
    said = [1, 2, 3] * 60
    assert is_loop(said)
    for place in range(1, LOOP_LEAST):
        assert not is_loop([*said[:-place], 9, *said[len(said) - place + 1 :]])


@pytest.mark.parametrize("rows", [1, 2])
def test_a_loop_is_stopped_and_shown(rows):
    script = [7, 8, 9, *[5, 6] * 200]
    decoder = ScriptedDecoder({1: script, 2: list(range(40)) * 9}, rows=rows)
    found = answers(generate_many(decoder, iter([ask(1, n=300), ask(2, n=300)])))
    assert found == {1: (script[: 3 + LOOP_LEAST], "loop"), 2: ((list(range(40)) * 9)[:300], "length")}


def test_a_loop_goes_on_where_it_is_asked_for():
    decoder = ScriptedDecoder({1: [7] * 400})
    assert answers(generate_many(decoder, iter([ask(1, n=300, stop_loops=False)]))) == {1: ([7] * 300, "length")}


# --- groups


def test_requests_of_a_group_share_their_beginning():
    decoder = ScriptedDecoder({key: [7, STOP] for key in range(6)})
    groups = ["a", "a", "b", None, None, "b"]
    list(generate_many(decoder, iter([ask(key, group=group) for key, group in enumerate(groups)])))
    kinds = [call[0] for call in decoder.calls if call[0] != "advance"]
    assert kinds == ["prefill", "reuse", "prefill", "prefill", "prefill", "prefill"]


def test_a_group_outlasts_the_call():
    decoder = ScriptedDecoder({1: [7, STOP], 2: [8, STOP]})
    for key in (1, 2):
        list(generate_many(decoder, iter([ask(key, group="dialogue")])))
    assert [call[0] for call in decoder.calls if call[0] != "advance"] == ["prefill", "reuse"]


def test_a_refused_prompt_leaves_the_group_as_it_was():
    decoder = ScriptedDecoder({1: [7, STOP], 2: [8, STOP]})
    list(generate_many(decoder, iter([ask(1, group="a"), ask("bad", UNKNOWN, group="b"), ask(2, group="a")])))
    assert [call[0] for call in decoder.calls if call[0] != "advance"] == ["prefill", "reuse"]


def test_a_request_goes_to_the_free_row_of_its_group():
    decoder = ScriptedDecoder({1: [7, STOP], 2: [8, STOP], 3: [9, STOP]}, rows=2)
    list(generate_many(decoder, iter([ask(1, group="a"), ask(2, group="b")])))
    list(generate_many(decoder, iter([ask(3, group="b")])))
    assert decoder.calls[-2:] == [("reuse", 1, [3], []), ("advance", {1: 9})]


# --- real graphs


def make_requests(manifest, count=12):
    """Prompts of 5 to 60 ids, some about clips, some beyond the trained context of 16, with answers of other lengths."""
    encoder, rng = open_encoder(manifest), np.random.default_rng(7)
    requests = []
    for key in range(count):
        clips = encoder.encode(make_mels(key, [int(rng.integers(10, 70))])) if key % 3 == 0 else []
        ids = make_prompt(key, int(rng.integers(5, 60)), [len(clip) for clip in clips])
        requests.append(Request(key, ids, clips, frozenset(range(0, 320, 40)), int(rng.integers(1, 30))))
    return requests


@pytest.mark.parametrize(
    "precision",
    ["fp32", "int8", "int4", *(pytest.param(one, marks=pytest.mark.slow) for one in ("fp16", "int8-fine"))],
)
def test_answers_are_those_of_the_requests_alone(tiny, precision):
    manifest = tiny(precision)
    requests = make_requests(manifest)
    alone = Decoder(manifest, ONNX_RUNTIME)
    expected = {
        one.key: greedy(alone, one.ids, one.clips, n=one.max_new_tokens, stop_ids=one.stop_ids) for one in requests
    }
    for rows in (1, 2, 3, 8):
        decoder = Decoder(manifest, ONNX_RUNTIME, rows=rows)
        found = answers(generate_many(decoder, iter(requests)))
        assert {key: new_ids for key, (new_ids, _) in found.items()} == expected
        assert {ended for _, ended in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("flavour", ["fused", "plain"])
def test_several_prompts_about_a_sound_are_answered_as_alone(tiny, flavour):
    manifest = tiny("fp32", flavour)
    clips = open_encoder(manifest).encode(make_mels(1, [60]))
    beginning = make_prompt(1, 5, [len(clips[0])])
    prompts = [beginning + make_prompt(seed, 3 + seed) for seed in (2, 3, 4)]
    requests = [Request(key, ids, clips, (), 12, group="sound") for key, ids in enumerate(prompts)]
    decoder = open_decoder(manifest)
    found = answers(generate_many(decoder, iter(requests)))
    assert found == {
        key: (greedy(open_decoder(manifest), ids, clips, n=12), "length") for key, ids in enumerate(prompts)
    }


def test_an_answer_that_nobody_waits_for_leaves_no_trace(tiny):
    decoder, ids = Decoder(tiny(), ONNX_RUNTIME, rows=3), make_prompt(3, 20)
    events = generate_many(decoder, iter([Request(key, make_prompt(key, 30), [], (), 20) for key in range(5)]))
    for _ in range(8):
        next(events)
    events.close()
    assert greedy(decoder, ids) == greedy(open_decoder(tiny()), ids)
