"""Guesses of the next ids: what is remembered, and that they change no answer, only how many runs it takes."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from decoder import generate
from decoder.decoder import Decoder
from decoder.generate import Request, generate_many
from decoder.speculation import LONGEST, LONGEST_RUN, REMEMBERED, Drafts
from errors import PromptError
from models.manifest import load_manifest
from tests.benchmarks import speculation as benchmark
from tests.scripted_decoder import AUDIO_END, AUDIO_START, UNKNOWN, ScriptedDecoder
from tests.tiny_models import ONNX_RUNTIME, make_mels, make_prompt, open_encoder

STOP = 99


def ask(key, ids=None, n=50, stop=STOP):
    return Request(key, ids or [key], [], frozenset({stop}), n)


def answers(events):
    found = {}
    for event in events:
        found.setdefault(event.key, []).append(event.finish_reason if event.token_id is None else event.token_id)
    return found


def runs(decoder):
    return [call[1] for call in decoder.calls if call[0] in ("advance", "extend")]


# --- what is remembered


def next_ids(drafts, ids, most=7):
    return [guess.token_id for guess in drafts.after(ids, most)]


def test_nothing_is_known_at_first():
    assert next_ids(Drafts(), [1, 2, 3]) == []


def test_what_followed_is_what_is_guessed():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4, 5, 6])
    assert next_ids(drafts, [9, 2, 3], 2) == [4, 5]
    assert next_ids(drafts, [2, 3]) == [4, 5, 6]
    assert next_ids(drafts, [5, 6]) == []  # nothing followed
    assert next_ids(drafts, [9]) == []
    assert next_ids(drafts, [2, 3], 0) == next_ids(drafts, [2, 3], -1) == []


def test_what_followed_most_often_counts_and_then_the_last_time():
    drafts = Drafts()
    for said in ([1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 2, 4]):
        drafts.remember(said)
    assert next_ids(drafts, [1, 2], 1) == [4]
    drafts.remember([1, 2, 3])
    assert next_ids(drafts, [1, 2], 1) == [3]


def test_the_longest_that_is_known_decides():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4])
    drafts.remember([7, 3, 5])
    drafts.remember([6, 3, 5])
    assert next_ids(drafts, [1, 2, 3], 1) == [4]
    assert next_ids(drafts, [8, 3], 1) == [5]


def test_no_more_than_so_many_ids_are_looked_up():
    drafts = Drafts()
    same = list(range(100, 100 + LONGEST))
    drafts.remember([1, *same, 3])
    for _ in range(2):
        drafts.remember([2, *same, 4])
    assert next_ids(drafts, [1, *same], 1) == [4]
    assert next_ids(drafts, [1, *same[1:]], 1) == [4]
    assert next_ids(drafts, [1, *same[:-1]], 1) == [same[-1]]


def test_a_guess_does_not_run_into_the_next_text():
    drafts = Drafts()
    drafts.remember([1, 2, 3])
    drafts.remember([4, 5, 6])
    assert next_ids(drafts, [1, 2]) == [3]
    assert next_ids(drafts, [3, 4]) == [5, 6]
    assert next_ids(drafts, [6]) == []


def test_the_end_of_an_answer_is_expected_where_most_ended():
    drafts = Drafts()
    for said in ([1, 2, 3], [1, 2], [1, 2]):
        drafts.remember(said)
    assert next_ids(drafts, [1, 2]) == []


def test_a_prompt_is_read_once():
    drafts = Drafts()
    for prompt in ([1, 2, 3], [1, 2, 4], [1, 2, 3]):
        drafts.read(prompt)
    assert next_ids(drafts, [1, 2], 1) == [4]


def test_what_always_followed_is_likelier():
    drafts = Drafts()
    chances = []
    for _ in range(4):
        drafts.remember([1, 2, 3])
        chances.append(next(drafts.after([1, 2], 1)).chance)
    assert chances == pytest.approx([0.6, 0.8, 2.6 / 3, 0.9])
    drafts.remember([1, 2, 4])
    assert next(drafts.after([1, 2], 1)).chance == pytest.approx(3.6 / 5)


def test_one_id_alone_says_less():
    drafts = Drafts()
    drafts.remember([1, 2, 3])
    assert next(drafts.after([9, 2], 1)).chance == pytest.approx(0.15)


def test_a_guess_needs_those_before_it():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4])
    assert [guess.chance for guess in drafts.after([1, 2], 2)] == pytest.approx([0.6, 0.36])


def test_what_is_unlikely_is_not_followed():
    drafts = Drafts()
    drafts.remember(range(1, 20))
    assert len(next_ids(drafts, [1, 2], 17)) == 5  # 0.6 to the power of 5 is below a tenth


def test_memory_is_flat():
    drafts = Drafts()
    for first in range(0, 3 * REMEMBERED, 1000):
        drafts.read(range(first, first + 1000))
    assert len(drafts._said) == REMEMBERED
    assert len(drafts._prompts) <= REMEMBERED // 1000
    assert next_ids(drafts, [500, 501], 1) == []  # forgotten
    drafts.remember([1, 2, 3])
    assert next_ids(drafts, [1, 2], 1) == [3]
    drafts.read(range(REMEMBERED))  # of a text that is longer than the memory, the end is kept
    assert next_ids(drafts, [REMEMBERED - 2], 1) == [REMEMBERED - 1]
    assert next_ids(drafts, [0], 1) == []


# --- what they change


def test_answers_like_those_before_take_fewer_and_fewer_runs():
    script = [*range(10, 40), STOP]
    decoder = ScriptedDecoder(dict.fromkeys(range(1, 6), script), takes_back_freely=True)
    found = answers(generate_many(decoder, (ask(key) for key in range(1, 6))))
    assert set(map(tuple, found.values())) == {(*script[:-1], "stop")}
    assert decoder.positions == [1 + 30]
    starts = [number for number, call in enumerate(decoder.calls) if call[0] == "prefill"]
    counts = np.diff([*starts, len(decoder.calls)]) - 1
    assert counts[0] == 30
    assert 4 <= counts[4] <= counts[3] <= counts[2] < counts[1] < 15
    lengths = [len(run[0]) for run in runs(decoder) if isinstance(run[0], list)]
    assert lengths[0] == 2  # a guess beside the first id costs nothing
    assert max(lengths) == LONGEST_RUN  # more and more is believed


def test_an_answer_as_before_comes_with_its_prompt():
    decoder = ScriptedDecoder({key: [10, 11, 12, STOP] for key in range(1, 9)}, takes_back_freely=True)
    found = answers(generate_many(decoder, (ask(key, ids=[key, *range(20, 40)]) for key in range(1, 9))))
    assert set(map(tuple, found.values())) == {(10, 11, 12, "stop")}
    assert decoder.guessed[0] == []
    assert decoder.guessed[-1] == [10, 11, 12]
    assert decoder.calls[-1][0] == "prefill"  # no run came after it
    assert decoder.positions == [21 + 3]


@pytest.mark.parametrize(("rows", "begun_with"), [(1, 5), (2, 4), (4, 2)])
def test_a_prompt_is_begun_with_fewer_guesses_where_rows_bring_more(monkeypatch, rows, begun_with):
    """What was met once has a chance of 0.8, and so has each guess behind it."""
    known = Drafts()
    known.remember([1, *range(50, 70), *range(10, 40)])
    monkeypatch.setattr(generate, "Drafts", lambda: known)
    decoder = ScriptedDecoder({1: [*range(10, 40), STOP]}, rows=rows, takes_back_freely=True)
    list(generate_many(decoder, iter([ask(1, ids=[1, *range(50, 70)])])))
    assert decoder.guessed == [list(range(10, 10 + begun_with))]


def test_what_was_refused_is_not_learnt():
    decoder = ScriptedDecoder({1: [*range(10, 14), STOP]}, takes_back_freely=True)
    requests = [ask("bad", ids=[1, 2, 3, UNKNOWN]), ask("good", ids=[1, 2, 3])]
    found = {event.key: event.error for event in generate_many(decoder, iter(requests))}
    assert isinstance(found["bad"], PromptError)
    assert decoder.guessed == [[]]


@pytest.mark.parametrize("changed", range(20))
def test_a_guess_that_fails_is_taken_back(changed):
    script = [*range(10, 30), STOP]
    other = [*script[:changed], 77, *script[changed + 1 :]]
    decoder = ScriptedDecoder({1: script, 2: other}, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(1), ask(2, ids=[2])])))
    assert found[2] == [*other[:-1], "stop"]


@pytest.mark.parametrize("n", range(1, 12))
def test_no_more_ids_come_than_were_asked_for(n):
    script = list(range(10, 40))
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(1, n=20), ask(2, ids=[2], n=n)])))
    assert found[2] == script[:n]
    assert decoder.positions[0] <= 1 + n


@pytest.mark.parametrize("most", range(2, 14))
def test_a_context_is_filled_and_not_more(most):
    script = list(range(10, 40))
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True, max_positions=most)
    found = answers(generate_many(decoder, iter([ask(1, n=20), ask(2, ids=[2], n=20)])))
    assert found[1] == found[2] == script[:most]


def test_rows_share_a_run_of_limited_length():
    script = [*range(10, 30), STOP]
    decoder = ScriptedDecoder(dict.fromkeys(range(1, 12), script), rows=3, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(key, ids=[key]) for key in range(1, 12)])))
    assert set(map(tuple, found.values())) == {(*script[:-1], "stop")}
    sizes = [sum(len(ids) if isinstance(ids, list) else 1 for ids in run.values()) for run in runs(decoder)]
    assert max(sizes) == 8  # three rows with a guess of one each, and at the end two with three


@pytest.mark.parametrize(
    ("rows", "first", "second"),
    [(1, [2], [2]), (2, [1, 1], [4, 4]), (3, [2, 1, 1], [2, 2, 2]), (4, [1, 1, 1, 1], [2, 2, 2, 2])],
)
def test_several_rows_guess_only_what_pays(rows, first, second):
    """What fills up an odd number of ids costs nothing; beyond that a guess must be likely, as after two known ids."""
    script = [*range(10, 18), STOP]
    decoder = ScriptedDecoder(dict.fromkeys(range(1, 1 + rows), script), rows=rows, takes_back_freely=True)
    list(generate_many(decoder, (ask(key, ids=[key, *script[:-1]]) for key in range(1, 1 + rows))))
    lengths = [[len(ids) if isinstance(ids, list) else 1 for ids in run.values()] for run in runs(decoder)]
    assert lengths[0] == first
    assert second in lengths


def test_what_stands_for_a_clip_is_not_learnt():
    """A folder's prompts are one prompt, whatever the lengths of their clips."""
    words = [[1, AUDIO_START, *([5] * length), AUDIO_END, 2, 3] for length in (4, 7)]
    decoder = ScriptedDecoder({1: [5, 5, 2, 30, STOP]}, takes_back_freely=True)
    list(generate_many(decoder, iter([ask(key, ids=ids) for key, ids in enumerate(words)])))
    assert [run[0] if isinstance(run[0], list) else [run[0]] for run in runs(decoder)][:3] == [[5], [5], [2, 3]]


def test_guessing_can_be_left():
    script = [*range(10, 30), STOP]
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True)
    list(generate_many(decoder, iter([ask(1), ask(2, ids=[2])]), speculate=False))
    assert len(runs(decoder)) == 40


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fine", "int8", "int4"])
def test_a_real_decoder_says_the_same_with_guesses_and_without(tiny, precision, rows):
    manifest = tiny(precision, seq_length=512)
    clip = open_encoder(manifest).encode(make_mels(0, [40]))
    prompts = [make_prompt(seed % 5, 6, [len(clip[0])]) for seed in range(12)]  # like each other, as in a folder
    told = []
    for guessing in (False, True):
        decoder, sizes = Decoder(manifest, ONNX_RUNTIME, rows=rows), []
        extend = decoder.extend
        decoder.extend = lambda ids, extend=extend, sizes=sizes: (
            sizes.append(sum(map(len, ids.values()))),
            extend(ids),
        )[1]
        requests = (Request(key, ids, clip, frozenset({3}), 24) for key, ids in enumerate(prompts))
        told.append((answers(generate_many(decoder, requests, speculate=guessing)), len(sizes)))
    assert told[0][0] == told[1][0]
    assert told[1][1] < 0.8 * told[0][1]  # runs


def test_an_answer_is_that_of_greedy_steps_bit_for_bit(tiny):
    """Also where a guess failed before: what it left in the cache is overwritten."""
    manifest, ids = tiny("int4", seq_length=512), make_prompt(1, 15)
    decoder, plain = (Decoder(manifest, ONNX_RUNTIME) for _ in range(2))
    expected = [plain.prefill(ids), *map(plain.step, (4, 5, 6, 7))]
    decoder.prefill(ids)
    first = decoder.extend({0: [4, 5, 9, 9, 9]})[0]
    decoder.rewind(17)
    second = decoder.extend({0: [6, 7]})[0]
    np.testing.assert_array_equal(np.concatenate([first[:2], second]), expected[1:])


# --- real models


@pytest.mark.slow
def test_nano_says_the_same_with_guesses_and_without(tmp_path, capsys):
    """The clips of every kind, and copies of them: a file that is given twice is answered once."""
    clips = Path(__file__).parent / "golden" / "nano"
    rows = json.loads((clips / "answers.json").read_text(encoding="utf-8"))
    for folder in ("first", "again"):
        shutil.copytree(clips, tmp_path / folder)
    for kind, raw in (("chat", False), ("raw", True)):
        lines = [
            json.dumps({"audio": [f"{folder}/{name}" for name in row["audio"]], "prompt": row["prompt"]})
            for folder in ("first", "again")
            for row in rows
            if row["raw"] is raw
        ]
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert benchmark.main(["--lists", str(tmp_path / "chat.jsonl"), str(tmp_path / "raw.jsonl")]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["answers"], result["differing"]) == (2 * len(rows), 0)
    assert result["runs_without"] == result["ids"]
    assert result["runs_with"] < 0.7 * result["runs_without"]
    assert result["guesses_in_prompts"] > 0


def test_the_full_geometry_says_the_same_with_guesses_and_without():
    if "QWEN_AUDIO_FULL" not in os.environ:
        pytest.skip("no model of the full size is named (QWEN_AUDIO_FULL=DIR; two minutes, its memory)")
    manifest = load_manifest(Path(os.environ["QWEN_AUDIO_FULL"]))
    assert (manifest.decoder_sizes.n_layer, manifest.decoder_sizes.d_model) == (32, 4096)
    decoder, runs, in_prompts, random = Decoder(manifest, ONNX_RUNTIME), Counter(), Counter(), np.random.default_rng(3)
    words = random.integers(0, 150_000, 30).tolist()
    first = [*random.integers(0, 150_000, 6).tolist(), *words]
    prompts = [first, first, [*first[:3], *words], [*first[:-1], 7], first]  # some as before, some nearly so
    extend, begin = decoder.extend, decoder.begin
    found = {}
    for guessing in (False, True):
        decoder.extend = lambda ids, guessing=guessing: (runs.update([guessing]), extend(ids))[1]
        decoder.begin = lambda ids, clips, guesses, guessing=guessing, **options: (
            in_prompts.update({guessing: len(guesses)}),
            begin(ids, clips, guesses, **options),
        )[1]
        requests = (Request(key, ids, [], frozenset(), 20) for key, ids in enumerate(prompts))
        found[guessing] = answers(generate_many(decoder, requests, speculate=guessing))
    assert found[True] == found[False]
    assert runs[False] == 5 * 19
    assert runs[True] < 0.8 * runs[False]
    assert in_prompts[True] > in_prompts[False] == 0
