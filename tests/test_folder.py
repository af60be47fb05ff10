"""The output folder: whole files or none, what is done is known again, and nobody disturbs another run in it."""

import errno
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.output import folder as results
from cli.output import journal as journals
from cli.output import temporary as temporaries
from cli.output.answer import Answer, Window
from cli.output.folder import JOURNAL, ResultsFolder
from cli.output.formats import render
from cli.output.journal import Journal
from cli.output.key import content_key
from cli.output.temporary import PREFIX, SUFFIX
from errors import UsageError, printable

ROOT = Path(__file__).parents[1]


def answers(text="hello"):
    return [Answer(["talk.flac"], "what?", text=text, windows=[Window(0.0, 4.0, text)])]


def files(folder):
    """What is in a folder, but for the journal."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL}


def leftover(folder, prefix=None, *, age=0.0):
    """A temporary file of a process that is no more."""
    path = folder / f"{temporaries.own_prefix() if prefix is None else prefix}{random.randbytes(8).hex()}{SUFFIX}"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


# --- writing


def test_all_formats_of_an_input_are_written_where_its_stem_says(tmp_path):
    folder = ResultsFolder(tmp_path / "new" / "out", ("txt", "json", "srt"))
    written = folder.write("sub/größer 大", answers(), "k")
    assert [str(path.relative_to(folder.folder)) for path in written] == [
        f"sub/größer 大.{fmt}" for fmt in ("txt", "json", "srt")
    ]
    for path in written:
        assert path.read_bytes() == render(answers(), path.suffix[1:]).encode()
    assert files(folder.folder) == {str(path.relative_to(folder.folder)) for path in written}


def test_outputs_have_the_rights_that_the_user_gives_new_files(tmp_path):
    (tmp_path / "other").touch()
    (path,) = ResultsFolder(tmp_path, ("txt",)).write("a", answers(), "k")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "-", "*", "x" * 250])
def test_odd_names_are_written_and_found_again(tmp_path, name):
    ResultsFolder(tmp_path, ("json",)).write(name, answers(), "k")
    assert (tmp_path / f"{name}.json").is_file()
    assert ResultsFolder(tmp_path, ("json",)).is_done(name, "k")


def test_a_link_and_what_it_leads_to_are_not_written_through(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "a.txt").symlink_to("theirs")
    ResultsFolder(tmp_path, ("txt",)).write("a", answers(), "k")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "a.txt").is_symlink()


def test_an_output_that_cannot_be_is_an_error_that_names_it_and_leaves_nothing(tmp_path):
    for name in ("a.json", "a-me.json"):
        (tmp_path / name).mkdir()
    folder = ResultsFolder(tmp_path, ("json",))
    with pytest.raises(OSError, match=r"a\.json'") as caught:
        folder.write("a", answers(), "k", "me")
    assert caught.value.errno == errno.EEXIST
    assert files(tmp_path) == set()
    assert not folder.is_done("a", "k")


def limited(code, tmp_path):
    """Run code in a process whose files can have 1,000 bytes, as on a disk that is full."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    return subprocess.run(
        [sys.executable, "-B", "-c", f"{limit}\n{textwrap.dedent(code)}", tmp_path],  # no half file of bytecode
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_leaves_the_old_outputs_and_no_half_file(tmp_path):
    folder = ResultsFolder(tmp_path, ("txt", "json"))
    folder.write("a", answers(), "k")
    ran = limited(
        """
        import sys; from pathlib import Path
        from cli.output.answer import Answer; from cli.output.folder import ResultsFolder
        folder = ResultsFolder(Path(sys.argv[1]), ("txt", "json"))
        try: folder.write("a", [Answer([], "", text="word " * 190)], "other")  # txt fits, json does not
        except OSError as error: print(error)
        folder.write("b", [Answer([], "", text="hello")], "k")
        """,
        tmp_path,
    )
    assert ("File too large" in ran.stdout, "a.txt" in ran.stdout, ran.stderr) == (True, True, "")
    assert files(tmp_path) == {"a.txt", "a.json", "b.txt", "b.json"}
    assert (tmp_path / "a.txt").read_text() == "hello\n"
    folder = ResultsFolder(tmp_path, ("txt", "json"))
    assert [folder.is_done(*done) for done in (("a", "k"), ("a", "other"), ("b", "k"))] == [True, False, True]


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_journal_on_a_full_disk_is_an_error_and_its_torn_line_spoils_no_other(tmp_path):
    folder = ResultsFolder(tmp_path, ("txt",))
    folder.write("a", answers(), "k")
    used = (tmp_path / JOURNAL).stat().st_size
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b"\n" * (1000 - used - 50))
    ran = limited(
        """
        import sys; from pathlib import Path
        from cli.output.answer import Answer; from cli.output.folder import ResultsFolder
        ResultsFolder(Path(sys.argv[1]), ("txt",)).write("b", [Answer([], "")], "k")
        """,
        tmp_path,
    )
    assert "OSError: [Errno 28] No space left on device" in ran.stderr
    assert (tmp_path / JOURNAL).stat().st_size == 1000
    folder = ResultsFolder(tmp_path, ("txt",))
    assert (folder.is_done("a", "k"), folder.is_done("b", "k")) == (True, False)
    folder.write("c", answers(), "k")
    assert ResultsFolder(tmp_path, ("txt",)).is_done("c", "k")


# --- folders that cannot be


def a_file(path):
    path.write_text("")
    return path


def below_a_file(path):
    return a_file(path) / "out"


def dangling(path):
    path.symlink_to("nowhere")
    return path


def journal_is_a_folder(path):
    (path / JOURNAL).mkdir(parents=True)
    return path


def too_long(path):
    return path / ("x" * 300)


def with_a_nul(path):
    return Path(f"{path}\0")


@pytest.mark.parametrize("make", [a_file, below_a_file, dangling, journal_is_a_folder, too_long, with_a_nul])
def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path, make):
    folder = make(tmp_path / "out")
    with pytest.raises(UsageError, match=r"(?s)--output-dir .*name a") as caught:
        ResultsFolder(folder, ("txt",))
    assert printable(str(folder)) in str(caught.value)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="a folder that root cannot write either")
def test_a_folder_without_rights_is_refused_at_once():
    with pytest.raises(UsageError, match="--output-dir /proc: cannot be written"):
        ResultsFolder(Path("/proc"), ("txt",))


# --- going on


def test_what_is_done_is_known_to_the_next_run(tmp_path):
    first = ResultsFolder(tmp_path, ("txt", "json"))
    assert not first.is_done("a", "k")
    first.write("a", answers(), "k")
    for folder in (first, ResultsFolder(tmp_path, ("txt", "json"))):
        assert folder.is_done("a", "k")
        assert not folder.is_done("a", "other")
        assert not folder.is_done("b", "k")
        assert not folder.is_done("a", None)


def test_only_the_formats_that_were_asked_for_are_done(tmp_path):
    ResultsFolder(tmp_path, ("txt", "json")).write("a", answers(), "k")
    assert ResultsFolder(tmp_path, ("json",)).is_done("a", "k")
    assert not ResultsFolder(tmp_path, ("txt", "srt")).is_done("a", "k")
    ResultsFolder(tmp_path, ("srt",)).write("a", answers(), "k")
    assert ResultsFolder(tmp_path, ("txt", "json", "srt")).is_done("a", "k")


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def change(path):
    path.write_bytes(path.read_bytes().swapcase())  # the same size


def make_a_folder(path):
    path.unlink()
    path.mkdir()


def make_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [remove, empty, change, make_a_folder, make_a_pipe])
def test_an_output_that_is_gone_or_changed_is_not_done(tmp_path, spoil):
    folder = ResultsFolder(tmp_path, ("txt", "json"))
    folder.write("a", answers(), "k")
    spoil(tmp_path / "a.json")
    assert not folder.is_done("a", "k")
    assert not ResultsFolder(tmp_path, ("txt", "json")).is_done("a", "k")
    assert ResultsFolder(tmp_path, ("txt",)).is_done("a", "k")


def test_the_answers_to_another_question_take_the_place_of_those_before(tmp_path):
    first = ResultsFolder(tmp_path, ("txt",))
    first.write("a", answers("yes"), "first")
    first.write("a", answers("not"), "second")  # of the same size
    for folder in (first, ResultsFolder(tmp_path, ("txt",))):
        assert [folder.is_done("a", key) for key in ("first", "second")] == [False, True]


def test_an_output_that_was_replaced_just_before_a_kill_is_not_done_for_either(tmp_path, monkeypatch):
    folder = ResultsFolder(tmp_path, ("txt",))
    folder.write("a", answers("yes"), "first")
    monkeypatch.setattr("cli.output.journal.append", lambda *_: None)
    folder.write("a", answers("not"), "second")
    folder = ResultsFolder(tmp_path, ("txt",))
    assert [folder.is_done("a", key) for key in ("first", "second")] == [False, False]


def test_overwriting_begins_anew_and_what_it_writes_is_done(tmp_path):
    ResultsFolder(tmp_path, ("txt",)).write("a", answers("old"), "k")
    ResultsFolder(tmp_path, ("txt",)).write("b", answers("old"), "k")
    folder = ResultsFolder(tmp_path, ("txt",), overwrite=True)
    assert not folder.is_done("a", "k")
    folder.write("a", answers("new"), "k")
    assert (tmp_path / "a.txt").read_text() == "new\n"
    folder = ResultsFolder(tmp_path, ("txt",))
    assert folder.is_done("a", "k")
    assert folder.is_done("b", "k")


@pytest.mark.parametrize("name", ["index.html", "score.json", "talk.txt"])
def test_a_recording_is_never_replaced_whatever_it_is_called(tmp_path, name):
    """Of the page and the scores the names are fixed, and an input may have them."""
    sound = (Path(__file__).parent / "golden" / "1272-128104-0000.flac").read_bytes()
    (tmp_path / name).write_bytes(sound)
    stem, ending = name.split(".")
    folder = ResultsFolder(tmp_path, ("txt",), overwrite=True)
    (other,) = folder.write_files(stem, {ending: b"ours"}, None, ending)
    assert (tmp_path / name).read_bytes() == sound
    assert other.name == f"{stem}-{ending}.{ending}"
    assert other.read_bytes() == b"ours"


def test_without_a_key_there_are_outputs_but_nothing_is_done(tmp_path):
    folder = ResultsFolder(tmp_path, ("txt",))
    folder.write("stdin", answers(), None)
    assert (tmp_path / "stdin.txt").read_text() == "hello\n"
    assert not ResultsFolder(tmp_path, ("txt",)).is_done("stdin", None)
    (other,) = ResultsFolder(tmp_path, ("txt",)).write("stdin", answers("more"), None)  # another sound was piped in
    assert other.name.startswith("stdin-")
    assert ResultsFolder(tmp_path, ("txt",)).write("stdin", answers(), None) == [tmp_path / "stdin.txt"]  # the same
    assert [(tmp_path / "stdin.txt").read_text(), other.read_text()] == ["hello\n", "more\n"]


def test_what_is_not_of_this_input_is_kept_and_the_answers_get_another_name(tmp_path):
    (tmp_path / "a.txt").write_text("the user's own")
    for _ in range(2):  # the same name in every run
        folder = ResultsFolder(tmp_path, ("txt",))
        assert folder.write("a", answers(), "k", "mon") == [tmp_path / "a-mon.txt"]
        assert ResultsFolder(tmp_path, ("txt",)).is_done("a", "k", "mon")
    assert (tmp_path / "a.txt").read_text() == "the user's own"


def test_an_answer_that_was_edited_or_locked_is_kept(tmp_path):
    for name, change in (("a", lambda path: path.write_text("edited")), ("b", lambda path: path.chmod(0o444))):
        (path,) = ResultsFolder(tmp_path, ("txt",)).write(name, answers("old"), "k", "mon")
        change(path)
        kept = path.read_text()
        assert ResultsFolder(tmp_path, ("txt",)).write(name, answers("new"), "other", "mon") != [path]
        assert path.read_text() == kept
        ResultsFolder(tmp_path, ("txt",), overwrite=True).write(name, answers("new"), "other", "mon")
        assert path.read_text() == "new\n"


def test_the_same_name_from_two_folders_is_two_files_whoever_comes_first(tmp_path):
    monday, tuesday = ResultsFolder(tmp_path, ("txt",)), ResultsFolder(tmp_path, ("txt",))  # at once
    assert monday.write("talk", answers("mon"), "m", "mon") == [tmp_path / "talk.txt"]
    assert tuesday.write("talk", answers("tue"), "t", "tue") == [tmp_path / "talk-tue.txt"]
    again = ResultsFolder(tmp_path, ("txt",))
    assert (again.is_done("talk", "m", "mon"), again.is_done("talk", "t", "tue")) == (True, True)
    assert (tmp_path / "talk.txt").read_text() == "mon\n"


def test_a_folder_can_be_moved(tmp_path):
    ResultsFolder(tmp_path / "here", ("txt",)).write("x/a", answers(), "k")
    (tmp_path / "here").rename(tmp_path / "there")
    assert ResultsFolder(tmp_path / "there", ("txt",)).is_done("x/a", "k")


# --- the journal


def test_the_journal_is_one_line_of_json_for_each_input(tmp_path):
    folder = ResultsFolder(tmp_path, ("txt",))
    folder.write("a", answers(), "k")
    folder.write("caf\udce9", answers(), "l")
    digest = hashlib.sha256(b"hello\n").hexdigest()
    lines = (tmp_path / JOURNAL).read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines if line] == [
        {"key": "k", "files": {"a.txt": digest}, "input": ""},
        {"key": "l", "files": {"caf\udce9.txt": digest}, "input": ""},
    ]


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_line_spoils_only_itself(tmp_path, cut):
    folder = ResultsFolder(tmp_path, ("txt",))
    folder.write("a", answers(), "k")
    folder.write("b", answers(), "k")
    journal = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(journal[: -cut - 1])
    folder = ResultsFolder(tmp_path, ("txt",))
    assert [folder.is_done(stem, "k") for stem in "ab"] == [True, False]
    folder.write("c", answers(), "k")
    folder = ResultsFolder(tmp_path, ("txt",))
    assert [folder.is_done(stem, "k") for stem in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"key"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"key": "k"}',
        b'{"files": {"a.txt": "0"}}',
        b'{"key": 1, "files": {"a.txt": "0"}}',
        b'{"key": "k", "files": ["a.txt"]}',
        b'{"key": "k", "files": {"a.txt": 5, "b.txt": null}}',
        b'{"version": 9, "started": "yesterday"}',
    ],
)
def test_lines_of_another_kind_are_passed_over(tmp_path, line):
    ResultsFolder(tmp_path, ("txt",)).write("a", answers(), "k")
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(line + b"\n")
    ResultsFolder(tmp_path, ("txt",)).write("b", answers(), "k")
    folder = ResultsFolder(tmp_path, ("txt",))
    assert folder.is_done("a", "k")
    assert folder.is_done("b", "k")


# --- the key


@pytest.fixture
def sounds(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("copy", b"one")):
        (tmp_path / name).write_bytes(content)
    return lambda *names: [str(tmp_path / name) for name in names]


def test_a_key_is_about_content_and_settings_not_names(sounds):
    settings = {"prompts": ["who?"], "system": "…", "model": "nano", "max_new_tokens": 512, "shape": (1, 2)}
    key = content_key(sounds("a"), settings)
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert content_key(sounds("copy"), dict(reversed(settings.items()))) == key
    others = [
        content_key(sounds("b"), settings),
        content_key(sounds("a", "copy"), settings),
        content_key(sounds("a", "b"), settings),
        content_key(sounds("b", "a"), settings),
        *(content_key(sounds("a"), settings | {name: "other"}) for name in settings),
        content_key(sounds("a"), settings | {"new": None}),
    ]
    assert len({key, *others}) == len(others) + 1


def test_what_cannot_be_read_twice_or_at_all_has_no_key(sounds, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("-", str(tmp_path / "pipe"), str(tmp_path), "", "\0", "\ud800", *sounds("missing"), "/dev/null"):
        assert content_key([path], {}) is None
        assert content_key([*sounds("a"), path], {}) is None


def test_settings_may_hold_any_text(sounds):
    assert content_key(sounds("a"), {"prompts": ["caf\udce9 大"]})


# --- sounds that were hashed before


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read to be hashed; a file counts as old enough at once."""
    found = []
    whole = journals.file_sha256
    monkeypatch.setattr(journals, "file_sha256", lambda path: found.append(path.name) or whole(path))
    monkeypatch.setattr(journals, "SETTLED", -1e6)
    return found


def test_an_unchanged_sound_is_hashed_once_whatever_is_asked(sounds, tmp_path, hashed):
    keys = [ResultsFolder(tmp_path / "out", ("txt",)).key(sounds("a", "b"), {"p": p}) for p in "112"]
    assert hashed == ["a", "b"]
    assert keys == [content_key(sounds("a", "b"), {"p": p}) for p in "112"]


@pytest.mark.parametrize("how", ["written", "same size", "same times", "another file"])
def test_a_changed_sound_has_another_key(sounds, tmp_path, hashed, how):
    (path,) = sounds("a")
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    before, status = folder.key([path], {}), Path(path).stat()
    time.sleep(0.05)  # a tick of the file system's clock
    if how == "another file":
        Path(*sounds("b")).rename(path)
    else:
        Path(path).write_bytes(b"longer" if how == "written" else b"two")
    if how in ("same times", "another file"):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert folder.key([path], {}) != before
    assert folder.key([path], {}) == content_key([path], {})


def test_a_sound_that_changed_just_now_is_hashed_again(sounds, tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(journals, "SETTLED", 2.0)
    folder = ResultsFolder(tmp_path / "out", ("txt",))
    for _ in range(2):
        folder.key(sounds("a"), {})
    assert hashed == ["a", "a"]


def test_a_journal_finds_every_line_among_thousands(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "_TAIL", 7)
    other, journal = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    for number in range(100):
        journal.add({"key": f"k{number}", "files": {f"{number % 50}.txt": "d", f"{number}.json": "d"}, "input": "me"})
    other.refresh()
    for one in (journal, other, Journal(tmp_path / "j")):
        assert [found.key for found in one.of("3.txt")] == ["k3", "k53"]
        assert [found.key for found in one.of("99.json")] == ["k99"]
        assert one.of("100.json") == []


def test_names_with_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "hash", lambda _: 1, raising=False)
    journal = Journal(tmp_path / "j")
    for name in "ab":
        journal.add({"key": name, "files": {name: "d"}, "input": ""})
    assert [found.key for found in journal.of("a")] == ["a"]


# --- what killed runs leave, and runs beside each other


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    theirs = {".qwen_audio-notes.part", "a.txt.part", "notes.txt", f"{PREFIX}{'0' * 8}-{'0' * 16}.txt"}
    for name in theirs:
        (tmp_path / name).write_text("theirs")
    leftover(tmp_path)
    below = leftover(tmp_path / "sub")
    folder = ResultsFolder(tmp_path, ("txt",))
    assert files(tmp_path) == {*theirs, str(below.relative_to(tmp_path))}
    folder.is_done("sub/a", "k")
    assert files(tmp_path) == theirs


def test_what_a_run_on_another_machine_left_is_removed_after_a_day(tmp_path):
    young = leftover(tmp_path, f"{PREFIX}00000000-", age=3600.0)
    leftover(tmp_path, f"{PREFIX}00000000-", age=100_000.0)
    ResultsFolder(tmp_path, ("txt",))
    assert files(tmp_path) == {young.name}


def test_the_temporary_file_of_a_living_process_stays(tmp_path):
    with temporaries.temporary_file(tmp_path) as temporary:
        ResultsFolder(tmp_path, ("txt",))
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"from cli.output.folder import *; ResultsFolder(Path({str(tmp_path)!r}), ('txt',))",
            ],
            cwd=ROOT,
            check=True,
        )
        assert temporary.exists()
    assert files(tmp_path) == set()


def test_a_temporary_file_that_is_taken_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, taken = temporaries.lock, []

    def slow(file, *, wait):
        if wait and not taken:
            taken.append(file.name)
            Path(file.name).unlink()
        return lock(file, wait=wait)

    monkeypatch.setattr(temporaries, "lock", slow)
    with temporaries.temporary_file(tmp_path) as temporary:
        assert temporary.exists()
    assert len(taken) == 1


def test_without_locks_files_are_written_and_leftovers_left_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    left = leftover(tmp_path)
    ResultsFolder(tmp_path, ("txt",)).write("a", answers(), "k")
    assert files(tmp_path) == {"a.txt", left.name}


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    folder = ResultsFolder(tmp_path, ("txt", "json"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.write("a", answers(), "k")
    assert files(tmp_path) == set()


def test_threads_share_a_folder(tmp_path):
    folder = ResultsFolder(tmp_path, ("txt", "json"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: folder.write(f"{i % 7}/{i}", answers(f"text {i}"), f"k{i}"), range(100)))
    again = ResultsFolder(tmp_path, ("txt", "json"))
    assert all(again.is_done(f"{i % 7}/{i}", f"k{i}") for i in range(100))


WRITER = """
import sys; from pathlib import Path
from cli.output.answer import Answer; from cli.output.folder import ResultsFolder
name, count, size = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for i in range(count):
    folder = ResultsFolder(Path(sys.argv[1]), ("txt", "json"))  # again and again: each looks for what is left over
    for stem in (f"{name}/{i}", f"{name}-{i}"):
        if not folder.is_done(stem, stem):
            folder.write(stem, [Answer([stem], "", text=f"{stem} " * size)], stem)
            print(stem, flush=True)
"""


def writer(folder, name, count, size):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, name, str(count), str(size)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_processes_share_a_folder(tmp_path):
    running = [writer(tmp_path, name, 30, 5) for name in "ab"]
    assert [process.communicate()[0].count("\n") for process in running] == [60, 60]
    assert [process.returncode for process in running] == [0, 0]
    folder = ResultsFolder(tmp_path, ("txt", "json"))
    stems = [f"{name}{sign}{i}" for name in "ab" for sign in "/-" for i in range(30)]
    assert all(folder.is_done(stem, stem) for stem in stems)
    assert files(tmp_path) == {f"{stem}.{fmt}" for stem in stems for fmt in ("txt", "json")}
    assert len((tmp_path / JOURNAL).read_bytes().split()) > len(stems)


def is_killed_at(step, work):
    """Do `work` in a process that is killed before the given line of what writes files; False if it is done by then."""

    def trace(frame, event, _):
        nonlocal step
        step -= event == "line"
        if step == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        code = frame.f_code
        ours = code.co_filename in (results.__file__, temporaries.__file__)
        watched = ours or code.co_name in {"write_bytes", "replace", "unlink", "open"}
        return trace if watched else None

    child = os.fork()
    if child == 0:
        sys.settrace(trace)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL")
@pytest.mark.slow
def test_a_kill_at_any_line_leaves_whole_files_and_no_wrong_entry(tmp_path):
    formats = ("txt", "json")
    folder = ResultsFolder(tmp_path, formats)
    contents = {text: [render(answers(text), fmt) for fmt in formats] for text in ("old", "new")}
    step, left = 0, 0
    while True:
        step += 1
        ResultsFolder(tmp_path, formats).write("a", answers("old"), "old")
        killed = is_killed_at(step, lambda: folder.write("a", answers("new"), "new"))
        left += len(files(tmp_path)) > 2
        again = ResultsFolder(tmp_path, formats)
        assert files(tmp_path) == {"a.txt", "a.json"}
        found = [(tmp_path / f"a.{fmt}").read_text() for fmt in formats]
        assert all(one in pair for one, pair in zip(found, zip(*contents.values(), strict=True), strict=True))
        for text, content in contents.items():
            assert not again.is_done("a", text) or found == content
        if not killed:
            break
    assert again.is_done("a", "new")
    assert step > 50
    assert left > 10  # kills in between, that had something to tidy up


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_run_that_is_killed_again_and_again_leaves_whole_files_and_does_none_twice(tmp_path):
    count, size, told, kills = 20, 20_000, [], 0
    delay = random.Random(4)
    while True:
        process = writer(tmp_path, "a", count, size)
        if kills < 5:
            told.append(process.stdout.readline())
            time.sleep(delay.uniform(0.0, 0.02))
            process.kill()
        told += process.communicate()[0].splitlines(keepends=True)
        for path in tmp_path.rglob("[!.]*.*"):
            stem = str(path.relative_to(tmp_path).with_suffix(""))
            text = f"{stem} " * size
            content = path.read_text()
            assert (json.loads(content)["text"] if path.suffix == ".json" else content) in (text, text.strip() + "\n")
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
    assert kills
    stems = {f"a{sign}{i}" for sign in "/-" for i in range(count)}
    assert files(tmp_path) == {f"{stem}.{fmt}" for stem in stems for fmt in ("txt", "json")}
    assert len(told) == len(set(told))  # told of once the journal has it: never again
