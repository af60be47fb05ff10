"""The page of -f html: what is on it, on a resumed run and with shards too, and in a browser: play, seek, filter."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
import soundfile

from audio_encoder.waveform import load_waveform
from cli.errors import INPUT_FAILED, NO_MODEL, OK
from cli.main import main
from cli.options import parse_arguments
from cli.output import page as pages
from cli.output import waveforms
from cli.output.answer import Answer, Audio, Window, Word
from cli.output.folder import ResultsFolder
from cli.output.key import identity
from cli.output.outputs import Outputs
from cli.output.page import Page
from cli.output.waveforms import COLUMNS, FOLDER, NOTES, Waveforms, fewer, find_peaks, is_playable, write_opus
from errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
CASES = Path(os.environ.get("QWEN_AUDIO_CASES", ROOT.parent / "shared" / "cases"))
RATE = 16_000
HOSTILE = '<img src=x onerror="window.hacked=1"></bdi><script>window.hacked=1</script>&amp;{{ 7*7 }}\u202e'


def tone(path, seconds=2.0, **options):
    """A sound that gets louder."""
    time = np.arange(int(seconds * RATE)) / RATE
    soundfile.write(path, 0.5 * time / seconds * np.sin(2 * np.pi * 440 * time), RATE, **options)
    return path


def answer(path, text="hello", *, prompt="what?", windows=(), words=None):
    return Answer(
        [str(path)],
        prompt,
        text=text,
        audio=[Audio(str(path), 2.0, 2.0)],
        windows=[Window(*window) for window in windows] or [Window(0.0, 2.0, text, "stop")],
        words=None if words is None else [Word(*word) for word in words],
    )


def put(out, *answers, stem=None, key="k"):
    """Answer about one input in the folder `out`, as a run with a page does; returns the page."""
    folder = ResultsFolder(out, ("json",))
    page = Page(folder)
    paths = answers[0].input
    page.add(paths, identity(paths, None))
    folder.write(stem or Path(paths[0]).stem, answers, key, identity(paths, None))
    return page


class _Reader(HTMLParser):
    """The elements of a page as (tag, attributes), and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag, name):
        return [attrs.get(name) for kind, attrs in self.elements if kind == tag]


def read(path):
    return _Reader(path.read_text(encoding="utf-8"))


# --- what is asked for


def test_a_page_brings_the_json_that_it_is_made_from():
    assert parse_arguments(["x.wav", "-o", "out", "-f", "html"]).formats == ("json", "html")
    assert parse_arguments(["x.wav", "-o", "out", "-f", "html,txt"]).formats == ("txt", "json", "html")
    assert "html" not in parse_arguments(["x.wav", "-o", "out", "-f", "all"]).formats


def test_without_jinja2_nothing_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    sound = tone(tmp_path / "a.wav")
    assert main(["-i", str(sound), "-o", str(tmp_path / "out"), "-f", "html"]) == NO_MODEL
    assert "pip install -r requirements.txt" in capsys.readouterr().err


# --- what is on it


def test_each_sound_has_a_player_that_leads_to_it_from_the_page(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "re c").mkdir()
    names = ["a.wav", "100% #1?.wav", "großer \U0001f3b5.wav", "javascript:alert(1).wav"]
    for name in names:
        path = put(out, answer(tone(tmp_path / "re c" / name))).write()
    sources = read(path).of("audio", "src")
    assert sorted(unquote(one) for one in sources) == sorted(f"../re c/{name}" for name in names)
    assert all(re.fullmatch(r"\.\./[\w%./-]+", one, re.ASCII) for one in sources)
    assert read(path).of("a", "href") == sources


def test_names_prompts_and_answers_stay_text(tmp_path):
    sound = tone(tmp_path / (HOSTILE.replace("/", "") + ".wav"))
    windows = [(0.0, 1.0, HOSTILE, "stop"), (1.0, 2.0, HOSTILE, "stop", False, {HOSTILE: -0.1, "no": -2.3})]
    said = answer(sound, HOSTILE, prompt=HOSTILE, windows=windows, words=[(HOSTILE, 0.5, 0.7)])
    found = read(put(tmp_path / "out", said, stem="hostile").write())
    assert "img" not in {tag for tag, _ in found.elements}
    assert [name for _, attrs in found.elements for name in attrs if name.startswith("on")] == []
    assert len(found.of("script", "src")) == 1
    assert found.text.count(HOSTILE) >= 4


def test_a_name_that_is_no_text_is_shown_and_linked(tmp_path):
    sound = tone(tmp_path / "a.wav").rename(tmp_path / "caf\udce9.wav")
    path = put(tmp_path / "out", answer(sound)).write()
    assert read(path).of("audio", "src") == ["../caf%E9.wav"]
    assert "caf\\udce9.wav" in path.read_text(encoding="utf-8")


def test_nothing_on_the_page_comes_from_elsewhere(tmp_path):
    text = put(tmp_path / "out", answer(tone(tmp_path / "a.wav"))).write().read_text()
    assert re.findall(r"(?:https?:)?//[a-z]+\.", text) == []
    assert "default-src 'none'" in text


def test_windows_and_words_stand_where_they_are_in_the_sound(tmp_path):
    windows = [(0.0, 1.25, "one two", "stop"), (1.25, 2.0, "", "silent", True)]
    said = answer(tone(tmp_path / "a.wav"), windows=windows, words=[("one", 0.1, 0.4), ("two", 0.5, 1.0)])
    found = read(put(tmp_path / "out", said).write())
    rects = [(one["class"], one["x"], one["width"]) for tag, one in found.elements if tag == "rect"]
    assert rects == [
        ("window", "0.0", "1.25"),
        ("window", "1.25", "0.75"),
        ("word", "0.1", "0.3"),
        ("word", "0.5", "0.5"),
    ]
    assert found.of("button", "data-start") == ["0.0", "1.25"]
    assert found.of("span", "data-start") == ["0.1", "0.5"]
    assert found.of("svg", "viewbox")[0].split()[2] == "2.0"
    assert "one two" in found.text
    assert "silence" in found.text


def test_a_window_without_timed_words_shows_its_text(tmp_path):
    windows = [(0.0, 1.0, "one", "stop"), (1.0, 2.0, "untimed", "loop")]
    said = answer(tone(tmp_path / "a.wav"), windows=windows, words=[("one", 0.1, 0.4)])
    text = read(put(tmp_path / "out", said).write()).text
    assert "untimed stopped, for it repeated itself" in text


def test_words_are_parted_as_their_language_parts_them(tmp_path):
    words = [("大", 0.1, 0.2), ("家", 0.2, 0.3), ("ok", 0.4, 0.5), (".", 0.5, 0.6)]
    assert "大家 ok." in read(put(tmp_path / "out", answer(tone(tmp_path / "a.wav"), words=words)).write()).text


def test_choices_come_with_how_likely_they_are(tmp_path):
    windows = [(0.0, 2.0, "man", "choice", False, {"woman": float(np.log(0.25)), "man": float(np.log(0.75))})]
    found = read(put(tmp_path / "out", answer(tone(tmp_path / "a.wav"), windows=windows)).write())
    assert "man: man 75.0 %, woman 25.0 %" in found.text


def test_several_sounds_of_one_prompt_have_a_player_each(tmp_path):
    said = answer(tone(tmp_path / "a.wav"))
    said.input.append(str(tone(tmp_path / "b.wav", 1.0)))
    found = read(put(tmp_path / "out", said, answer("", "second", prompt="and?")).write())
    assert found.of("audio", "src") == ["../a.wav", "../b.wav"]
    assert len(found.of("article", "class")) == 1
    assert "second" in found.text


def test_standard_input_has_answers_and_no_player(tmp_path):
    found = read(put(tmp_path / "out", answer("-"), stem="stdin").write())
    assert found.of("audio", "src") == []
    assert "standard input" in found.text


# --- scores


def scored(path, value, *, metric="wer", alignment=(), references=("one two",)):
    said = answer(path)
    said.references, said.score = references, {metric: {"value": value}}
    if alignment:
        said.score[metric]["alignment"] = [list(pair) for pair in alignment]
    return said


def shown(page):
    """The names of the inputs, from the top."""
    return [Path(unquote(one)).stem for one in read(page.write()).of("audio", "src")]


def test_the_worst_sounds_come_first_and_those_without_a_score_last(tmp_path):
    for name, value in {"a": 0.0, "b": None, "c": 1.5, "d": 0.2, "e": 1.5}.items():
        page = put(tmp_path / "out", scored(tone(tmp_path / f"{name}.wav"), value))
    page = put(tmp_path / "out", answer(tone(tmp_path / "0.wav")))
    assert shown(page) == ["c", "e", "d", "a", "b", "0"]
    assert "the worst first" in read(page.write()).text


def test_of_other_metrics_the_lowest_score_is_the_worst(tmp_path):
    for name, value in {"a": 1.0, "b": 0.0, "c": 0.5}.items():
        page = put(tmp_path / "out", scored(tone(tmp_path / f"{name}.wav"), value, metric="accuracy"))
    assert shown(page) == ["b", "c", "a"]
    assert "accuracy 0.5 one two" in read(page.write()).text


def test_without_scores_nothing_is_the_worst(tmp_path):
    assert "the worst first" not in read(put(tmp_path / "out", answer(tone(tmp_path / "a.wav"))).write()).text


def test_the_words_that_differ_are_marked(tmp_path):
    pairs = [("the", "the"), ("cat", "dog"), ("sat down", ""), ("", "<b>now</b>")]
    text = put(tmp_path / "out", scored(tone(tmp_path / "a.wav"), 0.75, alignment=pairs)).write().read_text()
    marks = re.findall(r"<(del|ins) title=\"[^\"]+\">(.*?)</", text)
    assert marks == [("del", "cat"), ("ins", "dog"), ("del", "sat down"), ("ins", "&lt;b&gt;now&lt;/b&gt;")]
    assert re.sub("<[^>]*>", "", text[text.index("wer 0.75") : text.index("&lt;b")]) == "wer 0.75 the cat dog sat down "


def test_letters_that_differ_stand_side_by_side(tmp_path):
    pairs = [("你", "你"), ("好", "号"), ("吗", "")]
    page = put(tmp_path / "out", scored(tone(tmp_path / "a.wav"), 0.66, metric="cer", alignment=pairs))
    assert "cer 0.66 你好号吗" in read(page.write()).text


@pytest.mark.slow
def test_a_run_with_scores_shows_the_worst_first(tmp_path, ask):
    pytest.importorskip("jiwer", reason="requirements-eval.txt is not installed")
    names = "abc"
    for number, name in enumerate(names, start=1):
        tone(tmp_path / f"{name}.wav", 0.5 * number)
        (tmp_path / f"{name}.txt").write_text("some words that nobody said"[: 5 * number])
    out = tmp_path / "out"
    assert (
        ask("-i", *(tmp_path / f"{name}.wav" for name in names), "--each", "-o", out, "-f", "html", "--score", "wer")[0]
        == OK
    )
    values = {name: json.loads((out / f"{name}.json").read_text())["score"]["wer"]["value"] for name in names}
    found = read(out / "index.html")
    order = [Path(one).stem for one in found.of("audio", "src")]
    assert [values[name] for name in order] == sorted(values.values(), reverse=True)
    assert {"del", "ins"} & {tag for tag, _ in found.elements}


# --- resumed runs, other processes


def test_the_answers_of_earlier_runs_are_on_the_page(tmp_path):
    out = tmp_path / "out"
    put(out, answer(tone(tmp_path / "a.wav"), "first"))  # killed before it wrote its page
    found = read(put(out, answer(tone(tmp_path / "b.wav"), "second")).write())
    assert found.of("audio", "src") == ["../a.wav", "../b.wav"]
    assert "first" in found.text


def test_answers_without_a_page_get_one_when_their_input_comes_again(tmp_path):
    sound, out = tone(tmp_path / "a.wav"), tmp_path / "out"
    source = identity([str(sound)], None)
    ResultsFolder(out, ("json",)).write("a", [answer(sound)], "k", source)
    folder = ResultsFolder(out, ("json",))
    page = Page(folder)
    assert folder.is_done("a", "k", source)
    assert read(page.write()).of("audio", "src") == []
    page.add([str(sound)], source)
    assert read(page.write()).of("audio", "src") == ["../a.wav"]


def test_a_page_is_right_from_whichever_folder_a_run_was_started(tmp_path, monkeypatch):
    (tmp_path / "rec").mkdir()
    tone(tmp_path / "rec" / "a.wav")
    monkeypatch.chdir(tmp_path / "rec")
    put(Path("../out"), answer("a.wav"))
    monkeypatch.chdir(tmp_path)
    tone(Path("rec/b.wav"))
    path = put(tmp_path / "out", answer("rec/b.wav")).write()
    assert read(path).of("audio", "src") == ["../rec/a.wav", "../rec/b.wav"]


def test_the_page_of_the_last_shard_has_all_of_them_whoever_began_first(tmp_path):
    out = tmp_path / "out"
    first = put(out, answer(tone(tmp_path / "a.wav")))
    second = put(out, answer(tone(tmp_path / "b.wav")))
    alone = second.write().read_bytes()
    assert first.write().read_bytes() == alone
    assert len(read(out / "index.html").of("audio", "src")) == 2


@pytest.mark.slow
def test_shards_that_write_at_once_leave_one_whole_page(tmp_path):
    code = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.test_page import answer, put
for number in range(8):
    put(Path(sys.argv[2]), answer(f"{sys.argv[3]}{number}.wav")).write()
"""
    names = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    running = [subprocess.Popen([*names, name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert len(read(tmp_path / "index.html").of("article", "class")) == 16
    assert list(tmp_path.glob("*.html")) == [tmp_path / "index.html"]


def test_of_two_files_about_an_input_the_newest_counts(tmp_path):
    sound, out = tone(tmp_path / "a.wav"), tmp_path / "out"
    put(out, answer(sound, "reply 1"), stem="a")
    put(out, answer(sound, "reply 2"), stem="a.wav")
    page = put(out, answer(sound, "reply 3"), stem="a", key="other")
    assert re.findall("reply .", read(page.write()).text) == ["reply 3"]


def test_answers_that_were_removed_or_edited_are_not_shown(tmp_path):
    out = tmp_path / "out"
    for name in "abc":
        page = put(out, answer(tone(tmp_path / f"{name}.wav"), f"text of {name}"))
    (out / "a.json").unlink()
    (out / "b.json").write_text("{}")
    assert re.findall("text of .", read(page.write()).text) == ["text of c"]


def test_a_page_of_the_user_is_kept(tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    for _ in range(2):
        page = put(tmp_path, answer(tone(tmp_path / "a.wav")))
        assert Outputs(folder=page._folder, page=page).close() == OK
        assert "index.html is not of this program and is kept" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["index-html.html", "index.html"]


def test_a_page_that_cannot_be_written_is_told_and_costs_the_run(tmp_path, capsys, monkeypatch):
    page = put(tmp_path, answer(tone(tmp_path / "a.wav")))

    def full(*_):
        raise OSError(28, "No space left on device", "out/index.html")

    monkeypatch.setattr(page._folder, "write_files", full)
    assert Outputs(folder=page._folder, page=page).close() == INPUT_FAILED
    assert "out/index.html: not written (No space left on device)" in capsys.readouterr().err


def test_a_run_without_answers_writes_no_page(tmp_path):
    assert Page(ResultsFolder(tmp_path, ("json",))).write() is None
    assert list(tmp_path.glob("*.html")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b'{"path": "a.wav", "stamp": [1, 2], "seconds": NaN, "peaks": "", "copy": ""}',
        b'{"path": "a.wav", "stamp": [1, 2], "seconds": 1, "peaks": "\xc3\xa9", "copy": ""}',
        b'{"path": "a.wav", "stamp": [1, 2], "seconds": 1, "peaks": "", "copy": "../../x"}',
        b'{"input": "x", "sounds": [1]}',
    ],
    ids=range(8),
)
def test_damaged_notes_about_sounds_are_passed_over(tmp_path, line):
    put(tmp_path / "out", answer(tone(tmp_path / "a.wav")))
    with (tmp_path / "out" / FOLDER / NOTES).open("ab") as file:
        file.write(b"\n" + line)
    found = read(put(tmp_path / "out", answer(tone(tmp_path / "b.wav"))).write())
    assert found.of("audio", "src") == ["../a.wav", "../b.wav"]


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"input": "a.wav"},
        {"input": "a.wav", "prompt": "?", "text": 1},
        {"input": "a.wav", "prompt": "?", "text": "", "windows": [{"start": float("nan"), "end": 1, "text": ""}]},
        {"input": "a.wav", "prompt": "?", "text": "", "words": [{"word": "x", "start": -1, "end": 1}]},
        {"input": 1, "prompt": "?", "text": ""},
        {"input": "a.wav", "prompt": "?", "text": "", "score": {"wer": {"value": float("nan")}}},
        {"input": "a.wav", "prompt": "?", "text": "", "score": {"wer": {"value": 1, "alignment": [1]}}},
    ],
    ids=range(8),
)
def test_a_record_of_another_kind_is_left_out(tmp_path, record):
    folder = ResultsFolder(tmp_path, ("json",))
    folder.write_files("a", {"json": json.dumps(record).encode()}, "k", "me")
    folder.write("b", [answer("b.wav", "shown")], "k", "you")
    found = read(Page(folder).write())
    assert (len(found.of("article", "class")), "shown" in found.text) == (1, True)


# --- waveforms


def test_peaks_are_where_the_sound_is_loud():
    sound = np.zeros(8 * RATE, np.float32)
    sound[2 * RATE] = -0.5
    sound[6 * RATE] = 0.25
    peaks, seconds = find_peaks([sound[:12_345], sound[12_345:12_346], sound[12_346:]])
    loud = {place: peak for place, peak in enumerate(peaks) if peak}
    assert (len(peaks), seconds) == (COLUMNS, 8.0)
    assert loud == {COLUMNS // 4: 255, COLUMNS * 3 // 4: 128}


@pytest.mark.parametrize(("samples", "columns"), [(0, 0), (1, 1), (161, 2), (RATE, 100), (3600 * RATE, COLUMNS)])
def test_a_waveform_of_any_length_stays_small(samples, columns):
    blocks = (np.zeros(min(RATE, samples - start), np.float32) for start in range(0, samples, RATE))
    peaks, _ = find_peaks(blocks)
    assert peaks == bytes(columns)


def test_fewer_peaks_keep_the_loudest():
    assert fewer(np.arange(10), 3).tolist() == [2, 5, 9]
    assert fewer(np.arange(3), 10).tolist() == [0, 1, 2]


def test_many_sounds_are_drawn_more_coarsely(tmp_path, monkeypatch):
    for name in "ab":
        loud = np.random.default_rng(0).uniform(0, 1, 5 * RATE) ** 500
        soundfile.write(tmp_path / f"{name}.wav", loud, RATE)
        page = put(tmp_path / "out", answer(tmp_path / f"{name}.wav"))
    fine = len(page.write().read_text())
    monkeypatch.setattr(pages, "_MOST_COLUMNS", 200)
    assert len(page.write().read_text()) < fine - 1000


def test_a_sound_is_decoded_once_until_it_changes(tmp_path, monkeypatch):
    sound, out = tone(tmp_path / "a.aiff"), tmp_path / "out"
    put(out, answer(sound))
    decoded = []
    monkeypatch.setattr(
        "audio_encoder.waveform.stream_waveform", lambda path, _: decoded.append(path) or [np.ones(RATE, np.float32)]
    )
    put(out, answer(sound))
    assert decoded == []
    tone(sound, 3.0)
    page = put(out, answer(sound))
    assert decoded
    decoded.clear()
    (next((out / FOLDER).glob("*.opus"))).unlink()
    put(out, answer(sound))
    assert decoded
    assert read(page.write()).of("section", "data-seconds")[0] == "1.0"


def test_a_sound_that_cannot_be_drawn_ends_no_run(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(waveforms, "write_opus", fail)
    path = put(tmp_path / "out", answer(tone(tmp_path / "a.aiff"))).write()
    assert "a.aiff: no player for it on the page (No space left on device)" in capsys.readouterr().err
    assert "hello" in read(path).text
    assert not list((tmp_path / "out" / FOLDER).glob("*.opus"))


@pytest.mark.parametrize("name", ["missing.wav", "broken.wav", "empty.wav", "-", "a\0b"])
def test_what_cannot_be_read_is_left_for_the_answering_to_tell(tmp_path, capsys, name):
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    (tmp_path / "empty.wav").touch()
    known = Waveforms(ResultsFolder(tmp_path / "out", ("json",)))
    known.add([str(tmp_path / name)], "me")
    assert known.read() == ({}, {})
    assert capsys.readouterr().err == ""


# --- copies


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_what_browsers_play_is_linked(tmp_path, name):
    path = put(tmp_path / "out", answer(tone(tmp_path / name))).write()
    assert read(path).of("audio", "src") == [f"../{name}"]


@pytest.mark.parametrize("name", ["a.aiff", "a.au", "a.w64", "a.caf"])
def test_what_browsers_do_not_play_has_a_small_copy(tmp_path, name):
    sound = tone(tmp_path / name, 5.0)
    path = put(tmp_path / "out", answer(sound)).write()
    (source,) = read(path).of("audio", "src")
    copy = path.parent / source
    assert read(path).of("a", "href") == [f"../{name}"]
    assert copy.stat().st_size < sound.stat().st_size / 5
    heard, played = load_waveform(sound), load_waveform(copy)
    assert abs(len(heard) - len(played)) < RATE * 0.02
    assert np.corrcoef(heard[: len(played)], played[: len(heard)])[0, 1] > 0.99
    assert list((path.parent / FOLDER).glob(".*")) == []


@pytest.mark.parametrize("name", ["phone_av.amr", "old.wma", "phone_amr.3gp", "video.mkv", "ios_alac.caf", "raw.aac"])
def test_recordings_of_telephones_and_cameras_have_a_copy(tmp_path, name):
    if not CASES.is_dir():
        pytest.skip(f"the cases are not at {CASES}")
    path = put(tmp_path / "out", answer(CASES / name)).write()
    assert read(path).of("audio", "src")[0].endswith(".opus")


def test_a_file_whose_clock_is_another_one_has_a_copy(tmp_path):
    """Two links of an Ogg chain: players stop at the end of the first, or count anew."""
    first, second = tone(tmp_path / "a.ogg"), tone(tmp_path / "b.ogg")
    (tmp_path / "both.ogg").write_bytes(first.read_bytes() + second.read_bytes())
    assert is_playable(str(first), 2.0)
    assert not is_playable(str(tmp_path / "both.ogg"), 4.0)


def test_a_playlist_is_not_followed(tmp_path):
    tone(tmp_path / "a.wav")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.wav\n#EXT-X-ENDLIST\n")
    assert not is_playable(str(tmp_path / "list.m3u8"), 2.0)


def test_a_copy_is_opus_at_the_rate_that_the_model_hears(tmp_path):
    write_opus([np.zeros(RATE, np.float32)] * 3, tmp_path / "a.opus")
    with av.open(str(tmp_path / "a.opus")) as container:
        assert (container.format.name, container.streams.audio[0].codec_context.name) == ("ogg", "opus")
        assert container.duration / 1e6 == pytest.approx(3, abs=0.02)


# --- whole runs


@pytest.fixture
def ask(demo_model, capsys):
    """ask(*arguments) -> (exit code, standard error), answers of at most 3 tokens."""

    def ask(*arguments):
        code = main(["--model", str(demo_model), "--max-new-tokens", "3", *map(str, arguments)])
        return code, capsys.readouterr().err

    return ask


@pytest.mark.slow
def test_a_run_that_goes_on_draws_what_was_answered_without_a_page(tmp_path, ask):
    (tmp_path / "in").mkdir()
    for name in "ab":
        tone(tmp_path / "in" / f"{name}.wav")
    out = tmp_path / "out"
    assert ask("-i", tmp_path / "in", "-o", out, "-f", "json")[0] == OK
    code, told = ask("-i", tmp_path / "in", "-o", out, "-f", "html")
    assert code == OK
    assert "2 skipped (2 done before)" in told
    assert read(out / "index.html").of("audio", "src") == ["../in/a.wav", "../in/b.wav"]


@pytest.mark.slow
def test_shards_and_copies_make_one_page_and_copies_are_no_inputs(tmp_path, ask):
    for name in ("a.wav", "b.aiff", "c.wav"):
        tone(tmp_path / name)
    for shard in ("2/2", "1/2"):
        assert ask("-i", tmp_path, "-r", "-o", tmp_path, "-f", "html", "--shard", shard)[0] == OK
    assert len(read(tmp_path / "index.html").of("article", "class")) == 3
    assert "3 skipped (3 done before)" in ask("-i", tmp_path, "-r", "-o", tmp_path, "-f", "html")[1]


@pytest.mark.slow
def test_a_bad_file_is_a_failure_and_the_page_has_the_others(tmp_path, ask):
    (tmp_path / "in").mkdir()
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.wav").write_bytes(b"no sound at all")
    code, told = ask("-i", tmp_path / "in", "-o", tmp_path / "out", "-f", "html")
    assert (code, told.count("b.wav")) == (INPUT_FAILED, 1)
    assert read(tmp_path / "out" / "index.html").of("audio", "src") == ["../in/a.wav"]


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def complaints():
    """What a page complains of, or asks the network for: a test that leaves some of it fails."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def opened(browser, complaints):
    """opened(page file) -> the page in a tab."""
    tabs = []

    def opened(path):
        tab = browser.new_page()
        tabs.append(tab)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
        tab.goto(path.absolute().as_uri())
        return tab

    yield opened
    for tab in tabs:
        tab.close()


def long_talk(folder):
    """A page about a talk of 60 s in two windows with words, and another sound."""
    windows = [(0.0, 28.0, "one two", "stop"), (28.0, 60.0, "three", "stop")]
    words = [("one", 3.0, 3.5), ("two", 10.0, 11.0), ("three", 40.0, 42.0)]
    put(folder / "out", answer(tone(folder / "a talk.flac", 60.0), windows=windows, words=words))
    return put(folder / "out", answer(tone(folder / "b.aiff", 20.0), "a bell rings")).write()


def note_seeks(tab):
    """Where each later seek goes; the time itself goes on while the sound plays."""
    tab.evaluate(
        "window.seeks = [];"
        "document.querySelectorAll('audio').forEach(a => a.addEventListener('seeking', () => seeks.push(a.currentTime)))"
    )


def time_of(tab, number=0):
    """Wait until a player plays; returns its time."""
    tab.wait_for_function(
        "n => { const a = document.querySelectorAll('audio')[n]; return !a.paused && a.readyState > 2 }", arg=number
    )
    return tab.evaluate("n => document.querySelectorAll('audio')[n].currentTime", number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "seconds"),
    [
        ("text=three", 40.0),
        ("button >> nth=1", 28.0),
        ("rect.word >> nth=1", 10.0),
        ("rect.window >> nth=1", 28.0),
    ],
)
def test_a_click_on_a_window_or_a_word_plays_from_there(tmp_path, opened, place, seconds):
    tab = opened(long_talk(tmp_path))
    note_seeks(tab)
    tab.click(f"article >> nth=0 >> .answer >> {place}" if "rect" not in place else f"article >> nth=0 >> {place}")
    tab.wait_for_function("seeks.length == 1")
    assert tab.evaluate("seeks[0]") == pytest.approx(seconds, abs=0.1)


@pytest.mark.slow
def test_a_click_in_the_waveform_plays_from_there_and_the_line_shows_it(tmp_path, opened):
    tab = opened(long_talk(tmp_path))
    box = tab.locator("svg").first.bounding_box()
    tab.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5)
    assert time_of(tab) == pytest.approx(45.0, abs=1.0)
    tab.wait_for_function("document.querySelector('svg line').getAttribute('x1') > 44")
    assert tab.locator(".now").all_inner_texts() == ["0:28", "three"]


@pytest.mark.slow
def test_a_sound_plays_on_and_stops_when_another_begins(tmp_path, opened):
    tab = opened(long_talk(tmp_path))
    for number in (0, 1):
        tab.evaluate("n => document.querySelectorAll('audio')[n].play()", number)
        begun = time_of(tab, number)
        tab.wait_for_function(
            "([n, t]) => document.querySelectorAll('audio')[n].currentTime > t + 0.3", arg=[number, begun]
        )
    assert tab.evaluate("[...document.querySelectorAll('audio')].map(a => a.paused)") == [True, False]


@pytest.mark.slow
def test_nothing_is_loaded_before_it_is_played(tmp_path, opened):
    tab = opened(long_talk(tmp_path))
    assert tab.evaluate("[...document.querySelectorAll('audio')].map(a => a.networkState)") == [1, 1]  # idle
    assert tab.evaluate("[...document.querySelectorAll('audio')].map(a => a.readyState)") == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "shown", "count"),
    [("BELL  a", [False, True], "1 of 2"), ("talk.flac", [True, False], "1 of 2"), ("zzz", [False, False], "0 of 2")],
)
def test_the_filter_leaves_what_has_all_words(tmp_path, opened, typed, shown, count):
    tab = opened(long_talk(tmp_path))
    tab.fill("#filter", typed)
    assert [one.is_visible() for one in tab.locator("article").all()] == shown
    assert tab.inner_text("#count") == count
    tab.fill("#filter", "")
    assert all(one.is_visible() for one in tab.locator("article").all())


@pytest.mark.slow
def test_hostile_text_runs_nothing(tmp_path, opened):
    sound = tone(tmp_path / (HOSTILE.replace("/", "") + ".wav"))
    windows = [(0.0, 1.0, HOSTILE, "stop"), (1.0, 2.0, HOSTILE, "stop")]
    said = answer(sound, HOSTILE, prompt=HOSTILE, windows=windows, words=[(HOSTILE, 0.5, 0.7)])
    tab = opened(put(tmp_path / "out", said, stem="hostile").write())
    tab.click("span[data-start]")
    assert time_of(tab) == pytest.approx(0.5, abs=1.0)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0


@pytest.mark.slow
def test_a_sound_that_was_moved_is_told_of(tmp_path, opened, complaints):
    path = long_talk(tmp_path)
    (tmp_path / "a talk.flac").unlink()
    tab = opened(path)
    tab.click("article >> nth=0 >> button >> nth=0")
    tab.wait_for_selector("text=This sound cannot be played")
    assert "ERR_FILE_NOT_FOUND" in complaints.pop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("place", [FOLDER, f"{FOLDER}/{NOTES}"])
def test_a_pipe_where_the_page_keeps_its_notes_is_told_and_not_waited_for(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / place)
    with pytest.raises(UsageError, match="not what this program writes there; remove it"):
        Page(ResultsFolder(tmp_path, ("json",)))
