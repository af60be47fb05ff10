"""--score: each metric in a case that was worked out by hand, and the runs that use them."""

import json
import os
import random
import sys
from importlib.metadata import version

import numpy as np
import pytest
import soundfile

from cli.inputs.beside import text_beside
from cli.inputs.search import Group
from cli.main import main
from cli.output.answer import Answer, from_record
from cli.score.scorer import Scorer
from cli.score.table import METRICS, check_metrics
from errors import QwenAudioError, UsageError

jiwer = pytest.importorskip("jiwer", reason="requirements-eval.txt is not installed")
pytest.importorskip("sacrebleu")


def answered(text, *references, source=None, language=None):
    answer = Answer(["a.wav"], "", text=text)
    answer.references, answer.source, answer.language = references, source, language
    return answer


def scored(metric, *answers):
    """(each answer's own value, the total of score.json)."""
    scorer = Scorer([metric])
    scorer.prepare(Group(("a.wav",), references=one.references) for one in answers)
    for answer in answers:
        scorer.add(answer)
    return [one.score[metric]["value"] for one in answers], json.loads(scorer.as_json())["metrics"][metric]


# --- each metric, by hand


def test_word_error_rate_is_errors_by_words():
    # a b c d -> a x c: one replaced, one left out; e -> e f: one put in. 3 errors, 5 words.
    own, total = scored("wer", answered("A, x c!", "a b c d"), answered("e f", "e"))
    assert own == [0.5, 1.0]
    assert total["value"] == 0.6


def test_words_are_aligned():
    answer = answered("mister quilting is", "mister quilter is here")
    scored("wer", answer)
    pairs = [["mister", "mister"], ["quilter", "quilting"], ["is", "is"], ["here", ""]]
    assert answer.score["wer"]["alignment"] == pairs


def test_the_nearest_of_several_references_counts():
    assert scored("wer", answered("a b", "x y", "a c"))[0] == [0.5]


def test_a_word_where_nothing_is_said_is_an_error():
    assert scored("wer", answered("hello", ""), answered("", ""))[0] == [1.0, 0.0]


def test_character_error_rate_of_chinese_has_no_spaces_and_no_marks():
    own, _ = scored("cer", answered("你 好,吗", "你好呀", language="zh"))
    assert own == [pytest.approx(1 / 3, abs=1e-6)]


def test_bleu():
    # 1- to 4-grams right: 5/6, 3/5, 1/4, 0 of 3 smoothed to 1/2 of one. The lengths are the same.
    _, total = scored("bleu", answered("the cat sat on the mat", "the cat is on the mat"))
    assert total["value"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25, abs=1e-4)


def test_bleu_of_a_corpus_is_sacrebleus():
    from sacrebleu.metrics import BLEU

    pairs = [
        ("the cat sat on the mat", "the cat is on the mat"),
        ("a dog runs in the park now", "a dog runs in a park"),
    ]
    found = scored("bleu", *[answered(*pair) for pair in pairs])[1]["value"]
    assert found == pytest.approx(BLEU().corpus_score([a for a, _ in pairs], [[b for _, b in pairs]]).score, abs=1e-5)


def test_bleu_of_chinese_counts_characters():
    # Characters right: 3/4, 2/3, 1/2, and of 4-grams 0 of 1 smoothed to a half.
    found = scored("bleu-zh", answered("我是学生", "我是学者"))[1]["value"]
    assert found == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25, abs=1e-4)


def test_bleu_of_japanese_counts_mecabs_words():
    pytest.importorskip("MeCab")
    # 私 は 学生 です: right are 3/4, 1/3, 0/2 -> 1/4, 0/1 -> 1/4.
    found = scored("bleu-ja", answered("私は学生です", "私は先生です"))[1]["value"]
    assert found == pytest.approx(100 * (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25, abs=1e-4)


def test_accuracy_is_the_same_answer():
    own, total = scored("accuracy", answered("Happy.", "happy"), answered("very happy", "happy"))
    assert own == [1.0, 0.0]
    assert total["value"] == 0.5


def test_binary_accuracy_is_about_yes_and_no():
    own, total = scored("binary-accuracy", answered("yes", "yes"), answered("yes", "no"), answered("rain", "rain"))
    assert own == [1.0, 0.0, None]
    assert (total["value"], total["answers"]) == (0.5, 2)


def test_contains_is_about_whole_words():
    own, _ = scored("contains", answered("The speaker is a woman.", "man"), answered("It is a man.", "man"))
    assert own == [0.0, 1.0]


def test_word_times_are_the_mean_shift_of_starts_and_ends():
    # one: 100 and 0 ms off; two is said as too; three: 0 and 40 ms. 140 by 4.
    own, total = scored(
        "word-times",
        answered("<|0.10|>one<|0.50|>too<|0.90|>three<|1.24|>", "<|0.00|>one<|0.50|>two<|0.90|>three<|1.20|>"),
    )
    assert own == [pytest.approx(35)]
    assert total["value"] == pytest.approx(35)


def test_cider():
    pytest.importorskip("pycocoevalcap")
    # Each n-gram of "a dog" stands in one of two references: the same caption has a cosine of 1 for 1- and 2-grams and 0 for
    # the two orders that it is too short for; 10 times the mean of the four is 5.
    own, total = scored("cider", answered("a dog", "a dog"), answered("one cat", "the bird"))
    assert own == [pytest.approx(5), 0]
    assert total["value"] == pytest.approx(2.5)


def test_labels_are_scored_by_mean_average_precision():
    # bright: named for both, true of one: 1/2. dark: true of the second, never named: its share, 1/2.
    own, total = scored("labels", answered("bright", "bright"), answered("<|sonic|>bright<|x|>", "<|sonic|>dark"))
    assert own == [1.0, 0.0]
    assert total["value"] == pytest.approx(0.5)


@pytest.mark.slow
def test_the_mean_average_precision_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    chance = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        wanted, found = chance.random((50, 128)) < 0.1, chance.random((50, 128)) < share
        kept = wanted.any(0)
        total = METRICS["labels"]().total(np.concatenate([wanted, found], 1).astype(float))
        assert total == pytest.approx(metrics.average_precision_score(wanted[:, kept], found[:, kept]), abs=1e-12)


def test_labels_are_the_same_in_each_way_to_write_them():
    pairs = [("<|sonic|>fast_decay, tempo-synced<|x|>", "Fast decay,tempo synced"), ("e\u0301", "é"), ("x", "dark")]
    assert scored("labels", *[answered(*pair) for pair in pairs])[0] == [1.0, 1.0, 0.0]


def test_an_instrument_is_the_same_in_each_way_to_write_it():
    assert scored("instrument", answered("<|instrument|>synth_lead", "<|instrument|>Synth lead"))[0] == [1.0]


def test_tags_of_a_note():
    note = "<|pitch|><|midi_pitch_60|><|velocity|><|midi_velocity_75|><|sonic|>bright<|instrument|>organ"
    other = note.replace("_60", "_61").replace("organ", "flute")
    for metric, value in (("pitch", 0.0), ("velocity", 1.0), ("instrument", 0.0)):
        assert scored(metric, answered(other, note))[0] == [value]
    assert scored("pitch", answered(note, note), answered("", note))[1]["value"] == 0.5


# --- totals


def test_two_hundred_answers_with_errors_have_jiwers_own_number():
    rng, words = (
        random.Random(3),
        ["the", "a", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "again", "and", "then", "it", "sleeps"],
    )
    references = [" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(200)]
    answers = [" ".join(with_errors(text.split(), rng, words)) for text in references]
    own, total = scored("wer", *[answered(*pair) for pair in zip(answers, references, strict=True)])
    assert total["value"] == pytest.approx(jiwer.wer(references, answers), abs=1e-6)
    assert own[:50] == [
        pytest.approx(jiwer.wer(*pair), abs=1e-6) for pair in zip(references[:50], answers[:50], strict=True)
    ]
    assert 0.1 < total["value"] < 0.5
    assert total["low"] < total["value"] < total["high"]


def with_errors(text, rng, words):
    for word in text:
        kind = rng.random()
        if kind > 0.1:
            yield rng.choice(words) if kind < 0.2 else word
        if kind > 0.95:
            yield rng.choice(words)


def test_the_interval_is_that_of_a_share():
    # 50 of 100: the normal approximation is 0.5 ± 1.96 · 0.05.
    answers = [answered("yes" if number % 2 else "no", "yes") for number in range(100)]
    total = scored("accuracy", *answers)[1]
    assert total["low"] == pytest.approx(0.402, abs=0.02)
    assert total["high"] == pytest.approx(0.598, abs=0.02)


def test_each_source_has_its_own_total():
    answers = [answered("yes", "yes", source="a"), answered("no", "yes", source="b")]
    by_source = scored("accuracy", *answers)[1]["by_source"]
    assert {source: total["value"] for source, total in by_source.items()} == {"a": 1.0, "b": 0.0}


def test_score_json_says_by_which_normaliser_and_library():
    packages = {name: version(name) for name in ("jiwer", "whisper-normalizer", "sacrebleu")}
    found = scored(
        "wer", answered("a", "a"), answered("b", "b", language="German"), answered("c", "c", language="en-US")
    )[1]
    assert found["normalizer"] == {
        "package": "whisper-normalizer",
        "version": packages["whisper-normalizer"],
        "names": {"en": "EnglishTextNormalizer", "de": "BasicTextNormalizer"},
    }
    assert found["libraries"] == {name: packages[name] for name in ("jiwer", "whisper-normalizer")}
    one = scored("bleu", answered("a b", "a c"))[1]
    assert one["signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{packages['sacrebleu']}"
    assert "nrefs:var" in scored("bleu", answered("a b", "a c"), answered("a", "a", "b"))[1]["signature"]


def test_bleu_has_the_number_that_its_signature_means():
    from sacrebleu.metrics import BLEU

    pairs = [("a b c d e", ["a b c d f", "a b"]), ("the cat sat", ["a cat sat", "the cat is sitting"])]
    found = scored("bleu", *[answered(text, *references) for text, references in pairs])[1]
    metric = BLEU()
    total = metric.corpus_score(
        [text for text, _ in pairs], [list(one) for one in zip(*(two for _, two in pairs), strict=True)]
    )
    assert found["value"] == pytest.approx(total.score, abs=1e-6)
    assert found["signature"] == str(metric.get_signature())


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_says_how_it_is_reckoned(metric):
    try:
        check_metrics([metric])
    except QwenAudioError:
        pytest.skip("its library is not installed")
    scorer = Scorer([metric])
    if hasattr(scorer._metrics[metric], "prepare"):
        scorer.prepare([Group(("a.wav",), references=("yes",))])
    found = json.loads(scorer.as_json())["metrics"][metric]
    assert found["libraries"]
    assert ("signature" in found) == metric.startswith("bleu")
    assert ("normalizer" in found) != metric.startswith("bleu")


# --- what is wrong


def test_an_unknown_metric_is_told_with_the_known_ones():
    with pytest.raises(UsageError, match="no such metric; choose from wer, cer"):
        check_metrics(["loudness"])


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_library_is_told(metric, monkeypatch):
    monkeypatch.setattr("cli.score.table.find_spec", lambda _: None)
    with pytest.raises(QwenAudioError, match=r"is not installed; .*requirements-eval\.txt") as caught:
        check_metrics([metric])
    assert caught.value.exit_code == 3


# --- runs


@pytest.fixture
def sounds(tmp_path):
    for name in "ab":
        noise = np.random.default_rng(ord(name)).normal(0, 0.1, 8000)
        soundfile.write(tmp_path / f"{name}.wav", noise.clip(-1, 1), 16_000)
    return tmp_path


def run(capsys, demo_model, *arguments):
    """(exit code, records, standard error)."""
    code = main(["--model", str(demo_model), "--max-new-tokens", "4", "--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "txt", "trans"])
def test_references_come_from_a_list_or_lie_beside_the_sounds(sounds, capsys, demo_model, kind):
    rows = {str(sounds / "a.wav"): 'red, "blue"', str(sounds / "b.wav"): "three"}
    arguments = ["-i", sounds]
    if kind == "jsonl":
        lines = [json.dumps({"audio": path, "text": text}) for path, text in rows.items()]
    elif kind == "csv":
        lines = ["audio,text", *(f'{path},"{text.replace(chr(34), chr(34) * 2)}"' for path, text in rows.items())]
    elif kind == "tsv":
        lines = ["audio\ttext", *(f"{path}\t{text}" for path, text in rows.items())]
    elif kind == "txt":
        for path, text in rows.items():
            (sounds / path).with_suffix(".txt").write_text(text + "\n")
    else:
        (sounds / "1-2.trans.txt").write_text('a red, "blue"\nb three\n')
    if kind in ("jsonl", "csv", "tsv"):
        (sounds / f"list.{kind}").write_text("\n".join(lines))
        arguments = ["--files-from", sounds / f"list.{kind}"]
    code, found, _ = run(capsys, demo_model, *arguments, "--score", "wer")
    assert code == 0
    assert [record["references"] for record in found] == [['red, "blue"'], ["three"]]
    assert all(record["score"]["wer"]["words"] == len(record["references"][0].split()) for record in found)


@pytest.mark.slow
def test_a_second_run_counts_the_answers_of_the_first(sounds, capsys, demo_model):
    (sounds / "l.jsonl").write_text(json.dumps({"audio": str(sounds / "a.wav"), "text": "one"}))
    arguments = ["--files-from", sounds / "l.jsonl", "--score", "wer", "-o", sounds / "out"]
    _, [shown], _ = run(capsys, demo_model, *arguments)
    first = (sounds / "out" / "score.json").read_text()
    assert json.loads((sounds / "out" / "a.json").read_text())["score"]["wer"]["words"] == 1
    _, [again], _ = run(capsys, demo_model, *arguments)
    assert again | {"timings": None} == shown | {"timings": None}
    assert (sounds / "out" / "score.json").read_text() == first


@pytest.mark.slow
def test_parts_have_scores_of_their_own_and_the_whole_counts_all(sounds, capsys, demo_model):
    pytest.importorskip("pycocoevalcap")
    rows = [{"audio": str(sounds / f"{name}.wav"), "text": name, "source": name * (name == "a")} for name in "ab"]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--files-from", sounds / "l.jsonl", "--score", "wer,cider", "-o"]
    _, whole, err = run(capsys, demo_model, *arguments, sounds / "whole")
    assert "  no source: " in err
    parts = []
    for part in ("0/2", "1/2"):
        _, found, err = run(capsys, demo_model, *arguments, sounds / "parts", "--shard", part)
        assert "of this part; without --shard the same command counts all" in err
        parts += found
    parts.sort(key=lambda record: record["input"])
    assert [record["score"] for record in parts] == [record["score"] for record in whole]
    for part in ("1of2", "2of2"):
        metrics = json.loads((sounds / "parts" / f"score-{part}.json").read_text())["metrics"]
        assert metrics["wer"]["answers"] == 1
    assert not (sounds / "parts" / "score.json").exists()
    run(capsys, demo_model, *arguments, sounds / "parts")
    assert (sounds / "parts" / "score.json").read_text() == (sounds / "whole" / "score.json").read_text()


@pytest.fixture
def asked(monkeypatch):
    """How many sounds were heard."""
    from cli.run import run as module

    found, whole = [], module.listen
    monkeypatch.setattr(module, "listen", lambda waveforms, model: found.append(1) or whole(waveforms, model))
    return found


def score_json(folder):
    return json.loads((folder / "score.json").read_text())["metrics"]


@pytest.mark.parametrize("flags", [[], ["--batch", "4"], ["-f", "json"], ["-f", "srt,json"]])
def test_each_row_about_a_sound_is_scored_by_its_own_reference(sounds, capsys, demo_model, asked, flags):
    texts, path = ["one", "red blue", "one", "four"], str(sounds / "a.wav")
    rows = [{"audio": path, "text": text} for text in texts]
    rows.insert(2, {"audio": str(sounds / "b.wav"), "text": "b"})
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--files-from", sounds / "l.jsonl", "--score", "wer", *flags, "-o", sounds / "out"]
    code, found, err = run(capsys, demo_model, *arguments)
    assert code == 0
    assert [record["references"] for record in found] == [["one"], ["red blue"], ["b"], ["four"]]
    assert [record["score"]["wer"]["words"] for record in found] == [1, 2, 1, 1]
    assert len({record["text"] for record in found if record["input"] == path}) == 1
    assert err.count("given before") == 1
    assert score_json(sounds / "out")["wer"]["answers"] == 4
    assert len([*(sounds / "out").glob("a*.json")]) == 3
    heard = len(asked)
    assert heard in (2, 3)  # the second row is like the first; the last one stands apart, and finds the file or not
    first = (sounds / "out" / "score.json").read_text()
    again = run(capsys, demo_model, *arguments)[1]
    assert [record | {"timings": None} for record in again] == [record | {"timings": None} for record in found]
    assert (sounds / "out" / "score.json").read_text() == first
    assert len(asked) == heard


def test_without_a_folder_each_row_is_scored_too(sounds, capsys, demo_model, asked):
    rows = [{"audio": str(sounds / "a.wav"), "text": text} for text in ("one", "two")]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, found, err = run(capsys, demo_model, "--files-from", sounds / "l.jsonl", "--score", "wer")
    assert [record["references"] for record in found] == [["one"], ["two"]]
    assert "on 2 answers" in err
    assert "scored by jiwer " in err
    assert len(asked) == 1
    _, [found], _ = run(capsys, demo_model, "--files-from", sounds / "l.jsonl")
    assert "references" not in found


def test_rows_about_a_sound_that_fails_all_fail(sounds, capsys, demo_model):
    (sounds / "a.wav").write_text("no sound")
    rows = [{"audio": str(sounds / "a.wav"), "text": text} for text in ("one", "two")]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, found, err = run(capsys, demo_model, "--files-from", sounds / "l.jsonl", "--score", "wer")
    assert (code, [record["status"] for record in found]) == (1, ["error", "error"])
    assert "2 failed" in err


def test_another_metric_or_reference_is_scored_without_asking_again(sounds, capsys, demo_model, asked):
    def ask(*flags, texts=("one", "two")):
        rows = [{"audio": str(sounds / f"{name}.wav"), "text": text} for name, text in zip("ab", texts, strict=True)]
        (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
        arguments = ["--files-from", sounds / "l.jsonl", "-o", sounds / "out", *flags]
        code, found, err = run(capsys, demo_model, *arguments)
        assert code == 0
        return [record | {"timings": None} for record in found], err

    plain, _ = ask("-f", "json")
    assert len(asked) == 2
    words, err = ask("--score", "wer")
    assert "2 skipped (2 done before)" in err
    letters, _ = ask("--score", "cer,wer")
    assert [one["score"].keys() for one in letters] == [{"cer": 0, "wer": 0}.keys()] * 2
    assert [one["text"] for one in letters] == [one["text"] for one in plain]
    assert score_json(sounds / "out").keys() == {"wer": 0, "cer": 0}.keys()
    mended, _ = ask("--score", "wer", texts=("one", "three words now"))
    assert mended[0] == words[0]
    assert mended[1]["score"]["wer"]["words"] == 3
    back, _ = ask("-f", "json")
    assert back == plain  # and no word of a score
    assert len(asked) == 2
    assert [path.name for path in sorted((sounds / "out").glob("*.json"))] == ["a.json", "b.json", "score.json"]


@pytest.mark.parametrize("change", ["answer", "sound", "flag"])
def test_a_stored_answer_that_may_be_another_is_not_scored(sounds, capsys, demo_model, asked, change):
    (sounds / "a.txt").write_text("one")
    arguments = ["-i", sounds / "a.wav", "-o", sounds / "out"]
    run(capsys, demo_model, *arguments, "-f", "json")
    if change == "answer":
        path = sounds / "out" / "a.json"
        path.write_text(path.read_text().replace('"ok"', '"OK"'))
    elif change == "sound":
        (sounds / "b.wav").rename(sounds / "a.wav")
    else:
        arguments += ["-p", "who?"]
    code, [found], _ = run(capsys, demo_model, *arguments, "--score", "wer")
    assert (code, found["score"]["wer"]["words"], len(asked)) == (0, 1, 2)


def test_a_file_of_the_users_is_not_replaced(sounds, capsys, demo_model):
    (sounds / "out").mkdir()
    (sounds / "out" / "score.json").write_text("mine")
    (sounds / "a.txt").write_text("one")
    (sounds / "a.wav").rename(sounds / "score.wav")
    (sounds / "a.txt").rename(sounds / "score.txt")
    code, _, err = run(capsys, demo_model, "-i", sounds, "--score", "wer", "-o", sounds / "out")
    assert code == 0
    assert (sounds / "out" / "score.json").read_text() == "mine"
    assert "score-score.json has the scores" in err
    assert "1 without a reference" in err


@pytest.mark.slow
def test_a_run_without_references_says_so(sounds, capsys, demo_model):
    code, _, err = run(capsys, demo_model, "-i", sounds, "--score", "wer")
    assert code == 1
    assert "wer: no answer could be scored" in err
    assert "2 without a reference" in err


def test_a_run_that_cannot_begin_says_nothing_of_scores(sounds, capsys, demo_model):
    code, _, err = run(capsys, demo_model, "-i", sounds, "--score", "wer", "--device", "cuda:99")
    assert (code, "scored" in err) == (3, False)


@pytest.mark.slow
def test_totals_are_told_where_no_file_has_them(sounds, capsys, demo_model):
    (sounds / "a.txt").write_text("one")
    assert "wer " in run(capsys, demo_model, "-q", "-i", sounds / "a.wav", "--score", "wer", "--language", "de")[2]
    assert run(capsys, demo_model, "-q", "-i", sounds / "a.wav", "--score", "wer", "-o", sounds / "out")[2] == ""


def test_references_that_are_not_utf8_fail_their_input(sounds, capsys, demo_model):
    (sounds / "a.txt").write_bytes(b"gr\xfcn")
    (sounds / "l.csv").write_bytes(b"audio,text\n%b,gr\xfcn\n" % bytes(sounds / "b.wav"))
    code, found, err = run(
        capsys, demo_model, "-i", sounds / "a.wav", "--files-from", sounds / "l.csv", "--score", "wer"
    )
    assert (code, [one["status"] for one in found]) == (1, ["error"] * 2)
    assert err.count("UTF-8") == 2


def test_one_reference_is_not_held_against_two_questions(sounds, capsys, demo_model):
    code, _, err = run(capsys, demo_model, "-i", sounds, "--score", "wer", "-p", "who?", "-p", "where?")
    assert code == 2
    assert "one prompt" in err


@pytest.mark.parametrize("language", ["en", "English", "en-US", "EN_gb"])
def test_a_language_is_known_by_the_names_that_lists_give_it(language):
    assert scored("wer", answered("color", "colour", language=language))[0] == [0.0]


def test_a_row_brings_its_own_task_question_and_language(sounds, capsys, demo_model):
    a, b = str(sounds / "a.wav"), str(sounds / "b.wav")
    rows = [
        {"audio": a, "task": "question", "question": "who?"},
        {"audio": a, "task": "transcribe", "language": "de"},
        {"audio": b, "task": "transcribe", "language": "sv"},
        {"audio": b, "task": "nonsense"},
    ]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, found, err = run(capsys, demo_model, "--files-from", sounds / "l.jsonl", "--raw")
    assert code == 1
    assert [record["prompt"] for record in found if record["status"] == "ok"] == [
        "<|startofanalysis|><|en|><|question|>who?<|answer|>",
        "<|startoftranscript|><|de|><|transcribe|><|de|><|notimestamps|><|wo_itn|>",
    ]
    assert "unknown language 'sv'" in err
    assert "no task 'nonsense'" in err


@pytest.mark.slow
def test_without_the_flag_no_library_of_it_is_imported(sounds, capsys, demo_model, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cli.score")]:
        monkeypatch.delitem(sys.modules, name)
    (sounds / "a.txt").write_text("one")
    _, found, _ = run(capsys, demo_model, "-i", sounds)
    assert not [name for name in sys.modules if name.startswith("cli.score")]
    assert all("score" not in record and "references" not in record for record in found)


def test_rows_may_bring_the_question_that_the_task_of_the_run_needs(sounds, capsys, demo_model):
    rows = [{"audio": str(sounds / "a.wav"), "question": "who?"}, {"audio": str(sounds / "b.wav")}]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, found, err = run(
        capsys, demo_model, "--files-from", sounds / "l.jsonl", "--task", "question", "-o", sounds / "o"
    )
    assert (code, [record["status"] for record in found]) == (1, ["ok", "error"])
    assert "who?" in found[0]["prompt"]
    assert "b.wav: --task question needs --question" in err
    code, found, err = run(capsys, demo_model, "-i", sounds, "--task", "question")
    assert (code, "needs --question" in err) == (2, True)


def test_rows_about_one_sound_choose_once(sounds, capsys, demo_model):
    rows = [{"audio": str(sounds / "a.wav"), "text": text} for text in ("yes", "no")]
    (sounds / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--files-from", sounds / "l.jsonl", "--choices", "yes,no", "--score", "accuracy", "-o", sounds / "o"]
    code, found, _ = run(capsys, demo_model, *arguments)
    assert (code, len({record["text"] for record in found})) == (0, 1)
    assert sorted(record["score"]["accuracy"]["value"] for record in found) == [0, 1]
    assert found[0]["windows"] == found[1]["windows"]


def test_a_record_that_an_old_version_wrote_is_no_answer(sounds, capsys, demo_model):
    _, [record], _ = run(capsys, demo_model, "-i", sounds / "a.wav", "-o", sounds / "o")
    again = from_record(record, ["b.wav"])
    assert again is not None
    assert again.record()["windows"] == record["windows"]
    assert [one.path for one in again.audio] == ["b.wav"]
    del record["notes"]
    assert from_record(record, ["b.wav"]) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_that_is_called_a_transcript_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.trans.txt")
    os.mkfifo(tmp_path / "a.txt")
    assert text_beside(str(tmp_path / "a.wav")) is None
