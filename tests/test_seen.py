"""What an earlier run saw done is known by stamps, without reading; whatever changed since is noticed."""

import gc
import hashlib
import json
import os
import random
import time
import warnings
from pathlib import Path

import pytest

from cli.output import folder as results
from cli.output import journal as journals
from cli.output import seen, tokens
from cli.output.answer import Answer
from cli.output.folder import JOURNAL, ResultsFolder
from cli.output.journal import Journal, Noted
from cli.output.key import content_key, identity, settings_text
from cli.output.stamp import stamp
from tests.test_folder import make_a_folder, make_a_pipe

SETTINGS = {"prompts": [["what?", 9, None]], "model": "nano"}


@pytest.fixture
def sound(tmp_path):
    """A sound, and what is above it."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    return path


@pytest.fixture
def old(monkeypatch):
    """Files count as old enough at once."""
    monkeypatch.setattr(seen, "ON_DISK", -1e6)
    monkeypatch.setattr(seen, "SETTLED", -1e6)


def answer(folder, sound, stem="a", settings=SETTINGS):
    """What a run does about an input: write, and find it done in the next run."""
    key = folder.key([str(sound)], settings)
    written = folder.write(stem, [Answer([str(sound)], "what?", text="hello")], key, "me")
    assert folder.is_done(stem, key, "me", folder.stamp([str(sound)], settings))
    return written


def is_unchanged(folder, sound, stem="a", settings=SETTINGS):
    return folder.is_unchanged(stem, "me", folder.stamp([str(sound)], settings))


def never(*_):
    raise AssertionError("read")


def test_what_was_seen_done_is_known_without_reading(tmp_path, sound, old, monkeypatch):
    folder = ResultsFolder(tmp_path / "out", ("txt", "json"))
    answer(folder, sound)
    key = folder.key([str(sound)], SETTINGS)
    for module in (results, journals):
        monkeypatch.setattr(module, "file_sha256", never)
    again = ResultsFolder(tmp_path / "out", ("txt", "json"))
    assert is_unchanged(again, sound)
    with pytest.raises(AssertionError, match="read"):  # what would have been read
        again.is_done("a", key, "me")


def swap(path):
    path.write_bytes(path.read_bytes().swapcase())


def swap_and_set_back(path):
    """Another content of the same size and time of change."""
    status = path.stat()
    time.sleep(0.02)
    swap(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


CHANGES = [Path.unlink, swap, swap_and_set_back, replace, make_a_folder, make_a_pipe]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("file", ["out/a.txt", "out/a.json", "a.wav"])
def test_a_change_of_a_sound_or_an_output_is_noticed(tmp_path, sound, old, change, file):
    answer(ResultsFolder(tmp_path / "out", ("txt", "json")), sound)
    time.sleep(0.02)  # a tick of the file system's clock
    change(tmp_path / file)
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt", "json")), sound)


def test_another_question_format_name_or_sound_is_another_input(tmp_path, sound, old):
    answer(ResultsFolder(tmp_path / "out", ("txt",)), sound)
    (tmp_path / "out" / "b.txt").write_text("hello\n")
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    assert is_unchanged(folder, sound)
    assert not is_unchanged(folder, sound, settings=SETTINGS | {"model": "other"})
    assert not is_unchanged(folder, sound, stem="b")
    assert not folder.is_unchanged("a", "me", folder.stamp([str(sound)] * 2, SETTINGS))
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt", "srt")), sound)
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt",), overwrite=True), sound)


def test_what_another_version_saw_is_looked_at_again(tmp_path, sound, old, monkeypatch):
    answer(ResultsFolder(tmp_path / "out", ("txt",)), sound)
    monkeypatch.setattr(results, "KEY_VERSION", 1000)
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)


def test_answers_under_the_other_name_are_seen_too(tmp_path, sound, old):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("the user's own")
    assert answer(ResultsFolder(tmp_path / "out", ("txt",)), sound) == [tmp_path / "out" / "a-me.txt"]
    assert is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)
    (tmp_path / "out" / "a-me.txt").unlink()
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)


@pytest.mark.parametrize("kept", ["ON_DISK", "SETTLED"])
def test_what_is_too_new_is_not_noted(tmp_path, sound, monkeypatch, kept):
    """The content may change in the same tick of the clock, and a power cut may take it."""
    monkeypatch.setattr(seen, "SETTLED" if kept == "ON_DISK" else "ON_DISK", -1e6)
    answer(ResultsFolder(tmp_path / "out", ("txt",)), sound)
    monkeypatch.setattr(seen, kept, -1e6)
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)


def test_what_was_written_is_seen_after_a_while_and_not_read_by_the_next_run(tmp_path, sound, old, monkeypatch):
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    key, before = folder.key([str(sound)], SETTINGS), folder.stamp([str(sound)], SETTINGS)
    folder.write("a", [Answer(["a"], "", text="hello")], key, "me", before)
    assert not is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)
    monkeypatch.setattr(results, "ON_DISK", -1e6)  # a minute later
    folder.write("b", [Answer(["b"], "", text="hello")], None)
    assert is_unchanged(ResultsFolder(tmp_path / "out", ("txt",)), sound)


def test_a_written_file_that_was_changed_meanwhile_is_not_noted(tmp_path, sound, old, monkeypatch):
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    key, before = folder.key([str(sound)], SETTINGS), folder.stamp([str(sound)], SETTINGS)
    (path,) = folder.write("a", [Answer(["a"], "", text="hello")], key, "me", before)
    swap(path)
    monkeypatch.setattr(results, "ON_DISK", -1e6)
    folder.write("b", [Answer(["b"], "", text="hello")], None)
    assert b'"seen"' not in (tmp_path / "out" / JOURNAL).read_bytes()


def test_what_can_be_read_once_or_not_at_all_has_no_stamp(tmp_path, sound, old):
    os.mkfifo(tmp_path / "pipe")
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    for path in ("-", tmp_path / "pipe", tmp_path, tmp_path / "none", "", "\0", "\ud800", "/dev/null"):
        assert folder.stamp([str(path)], SETTINGS) is None
        assert folder.stamp([str(sound), str(path)], SETTINGS) is None
    assert not folder.is_unchanged("a", "me", None)


def test_an_input_is_noted_once(tmp_path, sound, old):
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    for _ in range(3):
        answer(folder, sound)
        folder.is_done("a", folder.key([str(sound)], SETTINGS), "me", folder.stamp([str(sound)], SETTINGS))
    assert (tmp_path / "out" / JOURNAL).read_bytes().count(b'"seen"') == 3  # a file that is written again is another


# --- the journal is read by a pattern where that says the same as JSON


def by_json(data):
    """Name -> what is noted of it, from a JSON parser alone."""
    found = {}
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        match entry:
            case {"key": str(key), "files": dict(files)}:
                source = entry.get("input", "")
                source = source if isinstance(source, str) else ""
                notes = {name: Noted(key, digest, source) for name, digest in files.items() if isinstance(digest, str)}
            case {"stamp": str(name), "sha256": str(digest)}:
                notes = {"\0" + name: Noted("", digest, "")}
            case _:
                notes = {}
        for name, noted in notes.items():
            found.setdefault(name, []).append(noted)
    return found


TEXTS = [
    "",
    "a.txt",
    "k",
    "größer 大",
    "caf\udce9",
    'a"b',
    "back\\slash",
    "a\nb",
    "\x7f",
    "}",
    '", "',
    ", ",
    "{}",
    "\0",
]


def a_line(chance):
    text = lambda: chance.choice(TEXTS)  # noqa: E731
    entry = chance.choice(
        [
            {"key": text(), "files": {text(): text() for _ in range(chance.randint(0, 3))}, "input": text()},
            {"stamp": text(), "sha256": text()},
            {"seen": text()},
            {"key": text(), "files": {text(): chance.choice([None, 5, text()])}},
            {"files": {}, "input": 1, "key": text()},
            [text()],
        ]
    )
    line = json.dumps(entry, ensure_ascii=chance.random() < 0.8, separators=chance.choice([None, (",", ":")]))
    data = bytearray(line.encode("utf-8", "surrogatepass"))
    if chance.random() < 0.3:  # damage
        at = chance.randrange(len(data))
        data[at : at + chance.randint(0, 3)] = chance.choice([b"", b'"', b"\n", b"\x01", b"\xff", b"}", b"\\", b", "])
    return (
        chance.choice([b"", b"", b"\n", b" "])
        + bytes(data)
        + chance.choice([b"\n", b"\n", b"\n\n", b"\r\n", b"", b" \n"])
    )


@pytest.mark.parametrize("seed", range(30))
def test_any_journal_says_what_a_json_parser_finds(tmp_path, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.setattr(journals, "_BLOCK", chance.choice([1, 7, 100, 1 << 20]))
    data = b"".join(a_line(chance) for _ in range(60))
    (tmp_path / "j").write_bytes(data)
    wanted, journal = by_json(data), Journal(tmp_path / "j")
    assert len(wanted) > 5
    assert {name: journal.of(name) for name in [*wanted, "none"]} == wanted | {"none": []}
    assert journals.read(tmp_path / "j") == wanted


ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 0))


def a_seen_line(token):
    return b'{"seen": "%b"}\n' % token.hex().encode()


def test_what_others_add_to_a_half_line_is_taken_in_later(tmp_path):
    (tmp_path / "j").write_bytes(a_seen_line(ONE) + a_seen_line(TWO)[:12])
    journal = Journal(tmp_path / "j")
    with (tmp_path / "j").open("ab") as file:
        file.write(a_seen_line(TWO)[12:])
    assert journal.have_seen([ONE, TWO, None]) == [True, False, False]
    journal.refresh()
    assert journal.have_seen([THREE, TWO, None, ONE]) == [False, True, False, True]


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_what_was_seen_is_found_between_other_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(journals, "_BLOCK", block)
    lines = [b'{"stamp": "s", "sha256": "d"}\n', a_seen_line(ONE), b"\n", a_seen_line(TWO)[:20] + b"\n"]
    noise = [a_seen_line(TWO)[:-3] + b"\n", b" " + a_seen_line(TWO), a_seen_line(TWO)[:-1] + b" \n"]
    (tmp_path / "j").write_bytes(b"".join([*lines, *noise, a_seen_line(THREE), a_seen_line(THREE)]))
    journal = Journal(tmp_path / "j")
    assert journal.have_seen([TWO, ONE, THREE]) == [False, True, True]
    assert [noted.digest for noted in journal.of("\0s")] == ["d"]


def test_files_are_known_that_were_noted_before_the_first_was_asked_for(tmp_path):
    journal = Journal(tmp_path / "j")
    for number in range(3):
        journal.add({"key": "k", "files": {f"{number}.txt": "d"}, "input": ""})
        journal.see(bytes([number]) * 16)
    assert [len(journal.of(f"{number}.txt")) for number in range(4)] == [1, 1, 1, 0]
    journal.add({"key": "k", "files": {"3.txt": "d"}, "input": ""})
    assert len(journal.of("3.txt")) == 1
    assert journal.have_seen([bytes(16), bytes([2]) * 16, bytes([3]) * 16]) == [True, True, False]


def test_tokens_are_found_among_thousands_also_those_that_end_in_zeros(monkeypatch):
    monkeypatch.setattr(tokens, "_RECENT", 7)
    chance, held = random.Random(0), tokens.Tokens()
    known = [chance.randbytes(12) + bytes(4) for _ in range(500)] + [bytes(16)]
    held.extend(b"".join(known[:200]))
    for token in known[200:]:
        held.add(token)
    others = [token[:11] + bytes(5) for token in known[:-1]] + [chance.randbytes(16) for _ in range(500)]
    assert all(held.have(known))
    assert not any(held.have([*({*others} - {*known}), None]))
    assert len(held) == len(known)


# --- keys and identities are those of earlier versions


def test_keys_are_those_of_earlier_versions(sound):
    sounds, settings = [hashlib.sha256(b"sound").hexdigest()] * 2, SETTINGS | {"system": "…", "clips": ((0.0, 1.5),)}
    everything = {"version": 1, "sounds": sounds, "settings": settings}
    wanted = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    assert content_key([str(sound)] * 2, settings) == wanted
    assert settings_text(settings) == settings_text(dict(reversed(settings.items())))


def test_an_identity_is_of_the_path_as_pathlib_writes_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    odd = [
        "a",
        "./a",
        "a/",
        "a//b",
        "/a/./b",
        "/a/.",
        "//a",
        "///a",
        ".",
        "",
        "..",
        "../a",
        "a/../b",
        "/",
        ".a",
        "a.",
        "/.a",
        "caf\udce9",
    ]
    for path in odd:
        whole = "\0".join([str(Path(path).absolute()), "p"])
        wanted = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
        assert wanted.startswith(identity([path], "p")), path


def test_a_stamp_is_as_in_the_journals_of_earlier_versions(sound):
    status = sound.stat()
    assert stamp(status) == f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def test_the_file_of_a_journal_is_closed_when_nobody_needs_it(tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        journal = Journal(tmp_path / "j.jsonl")
        journal.add({"key": "k", "files": {"a.txt": "0" * 64}, "input": "a"})
        assert [one.key for one in journal.of("a.txt")] == ["k"]
        for _ in range(3):
            journal.refresh()
        journal.see(bytes(range(16)))
        assert journal.have_seen([bytes(range(16))]) == [True]
        file = journal._file
        del journal
        gc.collect()
    assert file.closed
    assert [str(one.message) for one in told if "j.jsonl" in str(one.message)] == []
