"""Which sounds are asked about: files, folders, patterns and lists -> groups, problems and notes, in stable order."""

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from audio_encoder.kinds import ENDINGS
from cli.inputs.listing import Group, find_inputs
from cli.inputs.rows import from_table
from cli.inputs.table import find_form
from cli.inputs.text import decode_pieces, split
from cli.options import parse_arguments
from errors import InputError, printable

ROOT = Path(__file__).resolve().parents[1]
NOT_NAMED = "\udcff\n\tü.wav"  # a byte that is no UTF-8, a line end, a tab


def find(*inputs, lists=(), each=False, recursive=False, null=False, extensions=None, shard=None, score=()):
    found = find_inputs(
        SimpleNamespace(
            inputs=inputs,
            lists=lists,
            each=each,
            recursive=recursive,
            null=null,
            extensions=extensions,
            shard=shard,
            score=score,
        )
    )
    problems = tuple((path, str(error)) for path, error in found.problems)
    lists = {name: tuple(getattr(found, name)) for name in ("groups", "skipped", "whole")}
    return replace(found, problems=problems, **lists)


def names(found):
    """The paths of each group, those of one path as a bare name."""
    return [group.paths[0] if len(group.paths) == 1 else group.paths for group in found.groups]


def clean(found):
    """The names of a listing without problems and notes."""
    assert (found.problems, found.skipped) == ((), ())
    return names(found)


def make(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_list(data, name="list.txt"):
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))
    return (name,)


def write_json(*records):
    return write_list("".join(json.dumps(record) + "\n" for record in records), "list.jsonl")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("a.wav", "b.flac", "talks/2.WAV", "talks/1.mp3", "talks/.hidden.wav", "talks/deep/3.ogg", "talks/.git/4.wav")
    Path("empty").mkdir()


# --- files


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.wav"], ["a.wav"]),
        (["b.flac", "a.wav"], [("b.flac", "a.wav")]),
        (["a.wav", "a.wav"], [("a.wav", "a.wav")]),
        (["-"], ["-"]),
        (["a.wav", "-"], [("a.wav", "-")]),
        (["a.wav", "missing.wav"], [("a.wav", "missing.wav")]),
        (["talks", "b.flac", "a.wav"], [("b.flac", "a.wav"), "talks/1.mp3", "talks/2.WAV"]),
        (["talks", "missing.wav"], ["missing.wav", "talks/1.mp3", "talks/2.WAV"]),
    ],
)
def test_typed_files_are_one_group_before_all_others(inputs, expected):
    assert clean(find(*inputs)) == expected


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["b.flac", "a.wav"], ["b.flac", "a.wav"]),
        (["talks", "b.flac", "-"], ["talks/1.mp3", "talks/2.WAV", "b.flac", "-"]),
        (["b.flac", "*.wav", "talks"], ["b.flac", "a.wav", "talks/1.mp3", "talks/2.WAV"]),
    ],
)
def test_each_file_is_a_group_of_its_own_in_the_order_typed(inputs, expected):
    assert clean(find(*inputs, each=True)) == expected


def test_each_missing_file_is_a_problem():
    found = find("a.wav", "no.wav", "b.flac", each=True)
    assert names(found) == ["a.wav", "b.flac"]
    assert found.problems == (("no.wav", "no.wav: no such file; check the path"),)


@pytest.mark.parametrize("name", ["notes.txt", "noise", "film.mkv"])
@pytest.mark.parametrize("each", [True, False])
def test_a_file_that_is_named_may_have_any_extension(name, each):
    make(name)
    assert clean(find(name, each=each)) == [name]
    assert clean(find(lists=write_list(name))) == [name]


@pytest.mark.parametrize(
    ("target", "reason"), [("gone.wav", "a broken link"), ("link.wav", "a link that leads back to itself")]
)
def test_a_link_that_leads_nowhere_is_a_problem_that_says_so(target, reason):
    Path("link.wav").symlink_to(target)
    for found in (find("link.wav", each=True), find(lists=write_list("link.wav")), find("lin*")):
        ((path, line),) = found.problems
        assert (path, found.groups) == ("link.wav", ())
        assert line.startswith(f"link.wav: {reason}")


def test_a_file_that_cannot_be_looked_at_is_left_to_its_opening(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.lstat", refuse)
    monkeypatch.setattr("os.stat", refuse)
    assert clean(find("locked/a.wav", each=True)) == ["locked/a.wav"]
    assert clean(find("locked/a.wav")) == ["locked/a.wav"]


def test_a_device_that_fails_is_not_called_missing(monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    listed = write_list("a.wav")
    monkeypatch.setattr("os.stat", fail)
    monkeypatch.setattr("os.lstat", fail)
    assert find(lists=listed).problems == (
        ("a.wav", "a.wav: cannot be read (Input/output error); check the path and its permissions"),
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_a_folder_that_is_not_called_a_sound_is_not_waited_for():
    """Nobody writes to it: whoever opens it waits for ever."""
    os.mkfifo("talks/pipe")
    found = find("talks")
    assert names(found) == ["talks/1.mp3", "talks/2.WAV"]
    assert found.skipped == ("talks: skipped files that are not sound (1 without extension)",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_list_in_a_pipe_is_read_once_and_whole():
    """As a shell gives it: --files-from <(find …)."""
    make("a.wav", *(f"many/{number}.wav" for number in range(2_000)))
    os.mkfifo("list")
    lines = "a.wav\n" + "".join(f"many/{number}.wav\n" for number in range(2_000))
    writer = threading.Thread(target=lambda: Path("list").write_text(lines))
    writer.start()
    assert "".join(f"{name}\n" for name in clean(find(lists=["list"]))) == lines
    writer.join()


def test_a_pipe_is_read_if_it_is_named_and_fails_in_a_folder():
    os.mkfifo("talks/pipe.wav")
    assert clean(find("talks/pipe.wav")) == ["talks/pipe.wav"]
    found = find("talks")
    assert names(found) == ["talks/1.mp3", "talks/2.WAV"]
    told = "talks/pipe.wav: a pipe or a device; name it on the command line to read it"
    assert found.problems == (("talks/pipe.wav", told),)
    assert not found.skipped


# --- nothing to work on


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["no.wav"], "no.wav: no such file; check the path"),
        ([""], "'': no such file; check the path"),
        (["no.wav", "nor.wav"], "no.wav, nor.wav: no such file; check the path"),
        (["https://x.org/a.mp3"], "https://x.org/a.mp3: an address, not a file; download it first: curl -LO ADDRESS"),
        (["file:///x/a.wav"], "file:///x/a.wav: an address, not a name; write its path, without file://"),
        (["a.wav/x"], "a.wav/x: no such file; check the path"),
        (["x" * 300], f"{'x' * 300}: no such file; check the path"),
        (["a\0.wav"], "a\\x00.wav: no such file; check the path"),
        (["\ud800/a.wav"], "\\ud800/a.wav: no such file; check the path"),  # no bytes stand for this name
        (["*.aiff"], "*.aiff: no sound matches; check the pattern"),
        ([], "nothing to ask about; name a sound with --input"),
    ],
)
def test_nothing_to_work_on_is_an_error_that_names_what_was_given(inputs, message, each):
    with pytest.raises(InputError) as error:
        find(*inputs, each=each)
    assert str(error.value) == message


def test_folders_without_a_sound_are_named_with_the_fix():
    make("texts/a.txt")
    with pytest.raises(InputError) as error:
        find("empty", "texts", "no.wav")
    message = str(error.value)
    assert message.startswith("no.wav: no such file; check the path; empty, texts: no sound files in it; ")
    assert "give -r" in message
    assert message.endswith("texts: skipped files that are not sound (1 .txt)")
    with pytest.raises(InputError, match=r"name another folder$"):
        find("empty", recursive=True)


def test_an_empty_list_alone_is_nothing_to_work_on():
    with pytest.raises(InputError, match=r"list\.txt: this list is empty"):
        find(lists=write_list("\n\r\n"))
    assert find("a.wav", lists=("list.txt",)).skipped == ("list.txt: this list is empty; write one name on each line",)


@pytest.mark.parametrize("name", ["no.txt", "talks", "a\0b", ""])
def test_a_list_that_cannot_be_read_ends_it(name):
    with pytest.raises(InputError, match="cannot be read") as error:
        find("a.wav", lists=(name,))
    assert str(error.value).startswith(printable(name) or "''")


@pytest.mark.parametrize(("inputs", "lists"), [(["-", "-"], []), (["-"], ["-"]), ([], ["-", "-"])])
def test_standard_input_is_read_once(inputs, lists):
    with pytest.raises(InputError, match="only once"):
        find(*inputs, lists=lists)


# --- folders


def test_a_folder_is_a_group_for_each_sound_directly_in_it():
    assert clean(find("talks")) == ["talks/1.mp3", "talks/2.WAV"]
    assert clean(find("talks/")) == ["talks/1.mp3", "talks/2.WAV"]


def test_below_a_folder_nothing_hidden_is_found():
    assert clean(find("talks", recursive=True)) == ["talks/1.mp3", "talks/2.WAV", "talks/deep/3.ogg"]
    assert clean(find(".", recursive=True)) == ["a.wav", "b.flac", "talks/1.mp3", "talks/2.WAV", "talks/deep/3.ogg"]


def test_a_folder_that_is_named_may_be_hidden():
    assert clean(find("talks/.git")) == ["talks/.git/4.wav"]


@pytest.mark.parametrize("inputs", [["order"], ["order/**/*"]])
def test_the_order_is_that_of_the_bytes_of_the_path(inputs):
    ordered = ["10.wav", "2.wav", "B.wav", "a-b.wav", "a-b/x.wav", "a.wav", "a/x.wav", "aé.wav", "\udcff.wav"]
    make(*(f"order/{name}" for name in reversed(ordered)))
    assert clean(find(*inputs, recursive=True)) == [f"order/{name}" for name in ordered]


@pytest.mark.parametrize("recursive", [True, False])
def test_what_is_no_sound_is_told_once_for_each_root(recursive):
    make("talks/b.txt", "talks/a.TXT", "talks/notes", "talks/deep/c.pdf")
    found = find("talks", recursive=recursive)
    deep = "1 .pdf, " if recursive else ""
    assert found.skipped == (f"talks: skipped files that are not sound ({deep}2 .txt, 1 without extension)",)
    assert found.problems == ()


def test_an_empty_folder_beside_others_is_a_note():
    found = find("empty", "a.wav")
    (note,) = found.skipped
    assert (names(found), found.problems) == (["a.wav"], ())
    assert note.startswith("empty: no sound files in it")


def test_extensions_choose_what_is_taken_from_folders_and_patterns():
    make("talks/x.m4a")
    found = find("talks", "a.*", "b.flac", extensions=frozenset({".m4a"}), recursive=True)
    assert names(found) == ["b.flac", "talks/x.m4a"]
    assert found.skipped == ("talks: skipped files that are not sound (1 .mp3, 1 .ogg, 1 .wav)", *found.skipped[1:])
    assert found.problems == (("a.*", "a.*: no sound matches; check the pattern"),)


def test_all_extensions_are_known_in_any_case():
    make(*(f"kinds/{number}{extension.upper()}" for number, extension in enumerate(sorted(ENDINGS))))
    assert len(clean(find("kinds"))) == len(ENDINGS)


def refuse_folder(monkeypatch, refused):
    """Permission bits do not bind root: the folder is refused where it is read."""
    read = Path.iterdir

    def iterdir(self):
        if str(self) == refused:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr("pathlib.Path.iterdir", iterdir)
    return (refused, f"{refused}: cannot be read (Permission denied); check the path and its permissions")


@pytest.mark.parametrize("refused", ["talks", "talks/deep"])
def test_a_folder_that_cannot_be_read_is_a_problem_and_the_rest_goes_on(monkeypatch, refused):
    problem = refuse_folder(monkeypatch, refused)
    found = find("a.wav", "talks", recursive=True)
    assert found.problems == (problem,)
    assert found.skipped == ()
    assert names(found) == (["a.wav"] if refused == "talks" else ["a.wav", "talks/1.mp3", "talks/2.WAV"])


def test_a_folder_that_cannot_be_read_is_something_to_work_on(monkeypatch):
    problem = refuse_folder(monkeypatch, "talks")
    assert find("talks").problems == (problem,)
    assert find("talks", "no.wav").problems == (problem,)


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_a_folder_without_rights_is_a_problem():
    Path("talks").chmod(0)
    try:
        assert find("talks").problems[0][0] == "talks"
    finally:
        Path("talks").chmod(0o700)


def test_links_that_lead_nowhere_in_a_folder_are_problems_if_they_would_be_sounds():
    Path("talks/0.wav").symlink_to("gone")
    Path("talks/more").symlink_to("more")
    found = find("talks", recursive=True)
    assert names(found) == ["talks/1.mp3", "talks/2.WAV", "talks/deep/3.ogg"]
    assert [path for path, _ in found.problems] == ["talks/0.wav"]
    assert found.skipped == ("talks: skipped files that are not sound (1 without extension)",)


# --- links and duplicates


@pytest.mark.parametrize("target", [".", "..", "deep", "deep/.."])
def test_loops_of_links_end_and_every_folder_is_read_once(target):
    Path("talks/loop").symlink_to(target)
    found = find("talks", recursive=True)
    assert names(found)[:2] == ["talks/1.mp3", "talks/2.WAV"]
    assert "talks/deep/3.ogg" in names(found)
    assert len({os.path.realpath(name) for name in names(found)}) == len(names(found))
    (note,) = [note for note in found.skipped if "the same folder as talks" in note]
    assert note.startswith("talks/loop")
    assert found.problems == ()


def test_two_links_that_lead_into_each_other_end():
    make("one/a.wav", "two/b.wav")
    Path("one/to").symlink_to("../two")
    Path("two/to").symlink_to("../one")
    for inputs in (["one"], ["one/**"], ["one/**/*.wav"]):
        found = find(*inputs, recursive=True)
        assert names(found) == ["one/a.wav", "one/to/b.wav"]
        assert found.skipped == ("one/to/to: the same folder as one; it is read once",)


def test_a_folder_goes_by_its_own_name_before_a_link_to_it():
    make("tree/z/a.wav")
    Path("tree/a").symlink_to("z")
    found = find("tree", recursive=True)
    assert (names(found), found.skipped) == (["tree/z/a.wav"], ("tree/a: the same folder as tree/z; it is read once",))


def test_a_link_to_a_folder_outside_is_followed_only_below():
    make("outside/x.wav")
    Path("talks/out").symlink_to("../outside")
    assert clean(find("talks")) == ["talks/1.mp3", "talks/2.WAV"]
    assert "talks/out/x.wav" in clean(find("talks", recursive=True))
    assert clean(find("talks/out")) == ["talks/out/x.wav"]


def test_a_file_given_twice_is_asked_once():
    Path("link.wav").symlink_to("a.wav")
    Path("alias").symlink_to("talks")
    given = ["a.wav", "link.wav", "./a.wav", "talks/../a.wav", "a.wav", "talks/1.mp3", "talks", "alias"]
    found = find(*given, each=True)
    assert names(found) == ["a.wav", "talks/1.mp3", "talks/2.WAV"]
    assert found.skipped == (
        "link.wav: given before as a.wav; it is answered once",
        "./a.wav: given before as a.wav; it is answered once",
        "talks/../a.wav: given before as a.wav; it is answered once",
        "a.wav: given before; it is answered once",
        "talks/1.mp3: given before; it is answered once",
        "alias/1.mp3: given before as talks/1.mp3; it is answered once",
        "alias/2.WAV: given before as talks/2.WAV; it is answered once",
    )


def test_a_file_may_be_repeated_within_a_group_and_beside_one():
    assert clean(find("a.wav", "a.wav", lists=write_list("a.wav\n"))) == [("a.wav", "a.wav"), "a.wav"]


def test_a_hard_link_is_a_file_of_its_own():
    os.link("a.wav", "c.wav")
    assert clean(find("a.wav", "c.wav", each=True)) == ["a.wav", "c.wav"]


def test_another_prompt_is_another_question():
    records = [{"audio": "a.wav", "prompt": prompt} for prompt in ("who?", "what?", "who?")]
    found = find("a.wav", lists=write_json(*records))
    assert found.groups == (Group(("a.wav",)), Group(("a.wav",), "who?"), Group(("a.wav",), "what?"))
    assert found.skipped == ("a.wav: given before; it is answered once",)


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.wav", ["a.wav"]),
        ("?.[wf]*", ["a.wav", "b.flac"]),
        ("talks/*.mp3", ["talks/1.mp3"]),
        ("t*/*", ["talks/1.mp3", "talks/2.WAV", "talks/deep/3.ogg"]),  # a folder that matches is a folder
        ("tal*", ["talks/1.mp3", "talks/2.WAV"]),
        ("talks/.h*", ["talks/.hidden.wav"]),
    ],
)
def test_a_pattern_is_a_group_for_each_match(pattern, expected):
    assert clean(find(pattern)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.ogg", ["talks/deep/3.ogg"]),
        ("**/[12].*", ["talks/1.mp3", "talks/2.WAV"]),
        ("**/a.wav", ["a.wav"]),
        ("**", ["a.wav", "b.flac", "talks/1.mp3", "talks/2.WAV", "talks/deep/3.ogg"]),
        ("t*/**/**/*.[mo]*", ["talks/1.mp3", "talks/deep/3.ogg"]),
        ("./talks/**/deep/**", ["talks/deep/3.ogg"]),
        ("**/deep/*.ogg", ["talks/deep/3.ogg"]),
    ],
)
def test_two_stars_are_any_number_of_folders(pattern, expected):
    assert clean(find(pattern, recursive=True)) == expected


def test_a_pattern_may_be_absolute(tmp_path):
    assert clean(find(f"{tmp_path}/*.wav")) == [f"{tmp_path}/a.wav"]
    assert clean(find(f"{tmp_path}/**/*.ogg", recursive=True)) == [f"{tmp_path}/talks/deep/3.ogg"]


def test_without_recursion_two_stars_are_one_and_the_fix_says_so():
    assert clean(find("**/*.mp3")) == ["talks/1.mp3"]
    with pytest.raises(InputError, match=r"give -r for \*\*"):
        find("**/*.ogg")


@pytest.mark.parametrize("name", ["[1].wav", "what?.wav", "**.wav"])
def test_a_file_of_that_name_is_no_pattern(name):
    make(name, "1.wav")
    assert clean(find(name)) == [name]
    assert clean(find(lists=write_list(name))) == [name]


@pytest.mark.parametrize("pattern", ["*.aiff", "no/*.wav", "no/**", "a.wav/**", "[", "[z-a]*", "a\0*"])
@pytest.mark.parametrize("recursive", [True, False])
def test_a_pattern_that_matches_nothing_is_a_problem_that_names_it(pattern, recursive):
    found = find("a.wav", pattern, recursive=recursive)
    ((path, line),) = found.problems
    assert (path, names(found)) == (pattern, ["a.wav"])
    assert line.startswith(f"{printable(pattern)}: no sound matches; check the pattern")


def test_a_pattern_that_matches_no_sound_tells_what_it_matched():
    make("a.txt", "b.txt")
    found = find("a.wav", "*.txt")
    assert [path for path, _ in found.problems] == ["*.txt"]
    assert found.skipped == ("*.txt: skipped files that are not sound (2 .txt)",)


def test_a_missing_name_in_a_list_is_no_pattern():
    found = find(lists=write_list("*.wav"))
    assert (found.groups, found.problems) == ((), (("*.wav", "*.wav: no such file; check the path"),))


# --- lists


@pytest.mark.parametrize(
    ("data", "null"),
    [
        (b"b.flac\na.wav\n", False),
        (b"b.flac\na.wav", False),
        (b"b.flac\r\n\r\n\na.wav\r\n", False),
        (b"\xef\xbb\xbfb.flac\na.wav\n", False),
        (b"b.flac\0a.wav\0", True),
        (b"b.flac\0\0a.wav", True),
    ],
)
def test_a_list_names_a_group_on_each_line(data, null):
    assert clean(find(lists=write_list(data), null=null)) == ["b.flac", "a.wav"]


def test_lists_follow_what_was_typed_in_their_order():
    make("c.wav", "d.wav")
    lists = write_list("d.wav", "1") + write_list("c.wav", "2")
    assert clean(find("talks", "b.flac", "a.wav", lists=lists)) == [
        ("b.flac", "a.wav"),
        "talks/1.mp3",
        "talks/2.WAV",
        "d.wav",
        "c.wav",
    ]


def test_a_list_may_come_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\n{\n")))
    found = find(lists=["-"])
    assert names(found) == ["a.wav"]
    assert [path for path, _ in found.problems] == ["standard input:2"]


def test_a_closed_standard_input_is_no_list(monkeypatch):
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    with pytest.raises(InputError, match="-: cannot be read"):
        find(lists=["-"])


def test_a_dash_in_a_list_is_standard_input_as_a_sound():
    assert clean(find(lists=write_list("a.wav\n-\n"))) == ["a.wav", "-"]


@pytest.mark.parametrize("name", [NOT_NAMED, "{a}.wav", "\r.wav\r", " ", "\ufeff.wav", "\x85\u2028.wav"])
def test_any_name_survives_a_list_that_is_separated_by_nul(name):
    make(f"./{name}")
    assert clean(find(lists=write_list(f"{name}\0a.wav\0"), null=True)) == [name, "a.wav"]


@pytest.mark.parametrize("name", ["\udcff.wav", "\x0b\x0c\x1c\x85\u2028.wav", " a.wav ", "#a.wav", "./{a}.wav"])
def test_a_line_ends_at_its_line_end_only(name):
    make(name)
    assert clean(find(lists=write_list(f"{name}\na.wav\n"))) == [name, "a.wav"]


def test_any_name_survives_folders_patterns_and_json():
    make(f"odd/{NOT_NAMED}")
    expected = [f"odd/{NOT_NAMED}"]
    assert clean(find("odd")) == clean(find("odd/*")) == clean(find("odd/**", recursive=True)) == expected
    assert clean(find(lists=write_json({"audio": expected[0]}))) == expected  # as \udcff: so our own records write it


def test_raw_bytes_of_a_name_survive_in_json():
    make("\udcff.wav")
    assert clean(find(lists=write_list(b'{"audio": "\xff.wav"}'))) == ["\udcff.wav"]


def test_a_folder_in_a_list_is_a_folder():
    assert clean(find(lists=write_list("a.wav\ntalks\n"))) == ["a.wav", "talks/1.mp3", "talks/2.WAV"]
    found = find(lists=write_json({"audio": "talks", "prompt": "who?"}), recursive=True)
    assert [group.prompt for group in found.groups] == ["who?"] * 3


def test_paths_of_a_list_begin_at_the_current_folder():
    found = find(lists=write_list("1.mp3\na.wav\n", "talks/list.txt"))
    assert (names(found), [path for path, _ in found.problems]) == (["a.wav"], ["1.mp3"])
    assert "it lies beside the list" in str(found.problems[0][1])


@pytest.mark.parametrize(
    "line",
    ['"a b.wav"', "'a b.wav'", " a b.wav", "a b.wav\t", ".\\a b.wav", '{"audio": "a b.wav "}'],
)
def test_a_name_that_is_not_there_is_understood_as_programs_write_it(line):
    make("a b.wav", "é.wav")
    found = find(lists=write_list(f"{line}\ne\u0301.wav\n"))
    assert [Path(name) for name in names(found)] == [Path("a b.wav"), Path("é.wav")]
    assert not found.problems


def test_names_as_old_windows_writes_them_and_old_macs_end_lines():
    make("é.wav")
    assert names(find(lists=write_list(b"\xe9.wav\ra.wav\r"))) == ["é.wav", "a.wav"]


def test_names_that_end_in_nul_are_taken_as_they_are():
    make("a b.wav")
    found = find(lists=write_list(b'"a b.wav"\0'), null=True)
    assert [path for path, _ in found.problems] == ['"a b.wav"']


def test_a_comment_is_told_and_a_missing_sound_is_a_failure():
    make("#1.wav")
    found = find(lists=write_list("# my talks\n#1.wav\n#2.wav\n"))
    assert (names(found), found.skipped) == (["#1.wav"], ("# my talks: taken for a comment",))
    assert [path for path, _ in found.problems] == ["#2.wav"]


@pytest.mark.parametrize("text", ["file,prompt\na.wav,x?\n", "path\na.wav\n", "a.wav,x?\n"])
def test_a_table_without_a_column_for_sounds_is_one_failure_with_the_fix(text):
    found = find("b.flac", lists=write_list(text, "list.csv"))
    assert (names(found), [path for path, _ in found.problems]) == (["b.flac"], ["list.csv:1"])
    assert "no column is called audio" in str(found.problems[0][1])


def test_a_table_of_nothing_but_a_head_is_an_empty_list():
    with pytest.raises(InputError, match=r"list\.csv: this list is empty"):
        find(lists=write_list("audio,prompt\n", "list.csv"))


@pytest.mark.parametrize("text", ['[\n{"audio": "a.wav"}\n]\n', '[{"audio": "a.wav"},\n {"audio": "b.flac"}]\n'])
def test_an_array_of_json_is_no_list(text):
    with pytest.raises(InputError, match="an array of JSON; write each object on a line"):
        find(lists=write_list(text, "list.json"))


def test_a_sound_is_no_list():
    with pytest.raises(InputError, match="a sound, not a list; give it to --input"):
        find(lists=("a.wav",))


def test_a_list_of_which_all_is_missing_is_told_line_by_line():
    found = find(lists=write_list("x.wav\ny.wav\n"))
    assert found.groups == ()
    assert [line for _, line in found.problems] == [f"{name}.wav: no such file; check the path" for name in "xy"]


def test_a_nul_in_a_line_is_a_problem_with_the_fix():
    found = find(lists=write_list(b"b.flac\0a.wav\0\na.wav\n"))
    assert names(found) == ["a.wav"]
    assert found.problems == (("list.txt:1", "list.txt:1: a NUL in the line; give -0 for names that end in NUL"),)


# --- lists in JSON


@pytest.mark.parametrize(
    ("record", "group"),
    [
        ({"audio": "a.wav"}, Group(("a.wav",))),
        ({"audio": ["a.wav"]}, Group(("a.wav",))),
        ({"audio": ["b.flac", "a.wav", "b.flac"]}, Group(("b.flac", "a.wav", "b.flac"))),
        ({"audio": ["b.flac", "no.wav"]}, Group(("b.flac", "no.wav"))),  # opening it names the failure
        ({"audio": "a.wav", "prompt": "who?"}, Group(("a.wav",), "who?")),
        ({"audio": ["a.wav", "b.flac"], "question": "who?"}, Group(("a.wav", "b.flac"), "who?")),
        ({"audio": "a.wav", "prompt": "who?", "question": "what?"}, Group(("a.wav",), "who?")),
        ({"audio": "a.wav", "prompt": None, "question": "what?"}, Group(("a.wav",), "what?")),
        ({"audio": "a.wav", "prompt": None, "id": 7, "text": ["x"]}, Group(("a.wav",))),
        ({"audio": "-", "prompt": "who?"}, Group(("-",), "who?")),
    ],
)
def test_a_line_of_json_brings_its_audios_and_its_question(record, group):
    found = find(lists=write_json(record))
    assert (found.groups, found.problems, found.skipped) == ((group,), (), ())


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "not valid JSON (Expecting property name"),
        ('{"audio": "a.wav"', "not valid JSON"),
        ('{"audio": "a.wav"} {}', "not valid JSON (Extra data)"),
        ("{a}.wav", "./{"),
        ('{"a":' * 100_000, "not valid JSON"),
        ('{"a": ' + "1" * 5_000 + "}", "not valid JSON (Exceeds the limit"),
        ("{}", '"audio"'),
        ('{"audio": null}', '"audio"'),
        ('{"audio": ""}', '"audio"'),
        ('{"audio": []}', '"audio"'),
        ('{"audio": ["a.wav", ""]}', '"audio"'),
        ('{"audio": ["a.wav", 1]}', '"audio"'),
        ('{"audio": {"path": "a.wav"}}', '"audio"'),
        ('{"audio": "a.wav", "prompt": " \\n"}', '"prompt"'),
        ('{"audio": "a.wav", "prompt": 7}', '"prompt"'),
        ('{"audio": "a.wav", "question": ["who?"]}', '"prompt"'),
    ],
)
def test_a_broken_line_is_a_problem_with_its_number(line, word):
    found = find(lists=write_list(f"a.wav\n\n{line}\nb.flac\n"))
    ((path, told),) = found.problems
    assert (path, names(found)) == ("list.txt:3", ["a.wav", "b.flac"])
    assert told.startswith("list.txt:3: ")
    assert word in told
    assert len(told) < 300


@pytest.mark.parametrize("name", ["no.wav", "a\0.wav", "\ud800.wav", "x" * 300])
def test_a_missing_audio_of_json_is_a_problem_by_its_name(name):
    found = find(lists=write_json({"audio": name}, {"audio": "a.wav"}))
    assert names(found) == ["a.wav"]
    assert found.problems == ((name, f"{printable(name)}: no such file; check the path"),)


# --- shards


def mixed():
    make(*(f"many/{number:02}.wav" for number in range(23)), "many/x.txt")
    Path("many/gone.wav").symlink_to("nothing")
    lists = write_list("no.wav\nmany/03.wav\n{\na.wav\n" + '{"audio": "a.wav", "prompt": "who?"}\n')
    return {"inputs": ["b.flac", "many", "*.aiff", "talks"], "lists": lists, "recursive": True}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 28, 100])
def test_shards_are_disjoint_and_together_the_whole(count):
    given = mixed()
    inputs = given.pop("inputs")
    whole = find(*inputs, **given)
    parts = [find(*inputs, **given, shard=(number, count)) for number in range(1, count + 1)]
    assert len(whole.groups) == 1 + 23 + 3 + 2
    assert len(whole.problems) == 4
    for kind in ("groups", "problems", "skipped"):
        together = list(itertools.chain.from_iterable(getattr(part, kind) for part in parts))
        assert sorted(map(str, together)) == sorted(map(str, getattr(whole, kind)))
    sizes = [len(part.groups) + len(part.problems) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert parts[0].skipped == whole.skipped
    assert {part.whole for part in parts} == {whole.groups}


def test_a_shard_is_every_nth_of_groups_and_problems_in_order():
    lists = write_list("a.wav\nno.wav\nb.flac\ntalks\n")
    first, second = (find(lists=lists, shard=(number, 2)) for number in (1, 2))
    assert (names(first), first.problems) == (["a.wav", "b.flac", "talks/2.WAV"], ())
    assert (names(second), second.problems[0][0]) == (["talks/1.mp3"], "no.wav")


def test_a_shard_may_be_empty():
    assert find("a.wav", shard=(2, 2)).groups == ()
    with pytest.raises(InputError):
        find("no.wav", shard=(2, 2))


def test_a_long_list_gives_its_rows_back_as_they_were_whole_and_in_shards(monkeypatch):
    monkeypatch.setattr("cli.inputs.spool._AT_ONCE", 7)
    make(*(f"{number}.wav" for number in range(60)))
    said = [
        {},
        {"prompt": "who?"},
        {"references": ("wörter",)},
        {"task": "transcribe", "language": "de"},
        {"source": "s"},
    ]
    groups = [Group((f"{number}.wav",), **said[number % 5]) for number in range(60)]
    rows = [{"audio": one.paths, "text": one.references and one.references[0], **vars(one)} for one in groups]
    lines = [one.paths[0] if one.is_bare else json.dumps(row) for one, row in zip(groups, rows, strict=True)]
    lines.insert(20, "missing.wav")
    lists = write_list("\n".join([*lines, "0.wav"]))

    def told(found):
        return [asdict(group) for group in found]

    whole = find(lists=lists)
    assert told(whole.groups) == told(groups)
    assert whole.skipped == ("0.wav: given before; it is answered once",)
    parts = [find(lists=lists, shard=(number, 3)) for number in (1, 2, 3)]
    assert sorted(told(group for part in parts for group in part.groups), key=str) == sorted(told(groups), key=str)
    assert [told(part.whole) for part in parts] == [told(groups)] * 3
    assert [len(part.problems) for part in parts] == [0, 0, 1]


def test_what_lies_in_a_file_does_not_move_it_to_another_shard():
    before = find("talks", recursive=True, shard=(2, 2))
    Path("talks/1.mp3").write_bytes(b"something else, and longer")
    assert find("talks", recursive=True, shard=(2, 2)) == before


# --- files by what is in them


@pytest.mark.parametrize(
    ("name", "head", "is_sound"),
    [
        ("memo", b"\0\0\0\x20ftypM4A ", True),
        ("memo.dat", b"OggS" + bytes(20), True),
        ("call", b"#!AMR\n", True),
        ("mp3", b"\xff\xfb\x90\x64" + bytes(20), True),
        ("film", b"\x1aE\xdf\xa3" + bytes(20), True),
        ("notes.txt", b"RIFFS of the year", False),
        ("list.txt", "ÿþ".encode("utf-16"), False),
        ("photo.heic", b"\0\0\0\x18ftypheic", False),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(20), False),
        ("paper.pdf", b"%PDF-1.7", False),
        ("broken.m4a", b"nothing", True),  # it is called a sound: what it is not is told when it is opened
    ],
)
def test_a_folder_takes_what_begins_like_a_recording_or_is_called_one(name, head, is_sound):
    Path("folder").mkdir()
    Path("folder", name).write_bytes(head)
    assert bool(find("folder", lists=write_list(b"x.wav\n")).groups) == is_sound


def test_comments_of_a_playlist_are_passed_over():
    make("a.wav", "b c.wav")
    assert names(find(lists=write_list(b"#EXTM3U\n#EXTINF:3,a\na.wav\nb c.wav\n", "list.m3u"))) == ["a.wav", "b c.wav"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_list_is_read_in_the_encoding_that_it_is_in(encoding):
    make("lärm.wav", "b c.wav")
    assert names(find(lists=write_list("lärm.wav\r\nb c.wav\r\n".encode(encoding)))) == ["lärm.wav", "b c.wav"]


def test_half_a_character_in_a_prompt_is_a_problem():
    make("a.wav")
    found = find(lists=write_list(b'{"audio": "a.wav", "prompt": "\\ud800"}\n'))
    assert "surrogate" in found.problems[0][1]


# --- long lists


@pytest.mark.slow
def test_a_long_list_is_read_in_pieces_and_not_held(monkeypatch):
    """What is allocated for 20,000 lines more is a few bytes a line."""
    peaks = []
    Path("many").mkdir()
    monkeypatch.setattr("cli.inputs.listing.named", lambda path, _: [Group((path,))])
    for count in (2_000, 22_000):
        write_list("".join(f"many/{number:090}.wav\n" for number in range(count)))
        tracemalloc.start()
        found = find_inputs(parse_arguments(["--files-from", "list.txt"]))
        paths = sum(len(group.paths[0]) for group in found.groups)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (len(found.groups), paths) == (count, count * 99)
    assert (peaks[1] - peaks[0]) / 20_000 < 150  # a name alone has 99 letters; the sorting holds 5 numbers a line


def test_lines_are_the_same_wherever_a_piece_ends(monkeypatch):
    lines = ["größer.wav", "a.wav\r", "", "b.flac"]
    for size in range(1, 12):
        monkeypatch.setattr("cli.inputs.text._PIECE", size)
        pieces = decode_pieces(io.BytesIO("\n".join(lines).encode()))
        assert list(split(pieces, "\n")) == lines


@pytest.mark.parametrize(
    ("line", "file"),
    [("here.wav", "here.wav"), ("beside.wav", "music/beside.wav"), ("file://{cwd}/a%20b.wav", "{cwd}/a b.wav"),
     (b"gr\xfcn.wav", "grün.wav")],
)  # fmt: skip
def test_a_playlist_names_files_as_players_write_them(line, file):
    make("here.wav", "music/beside.wav", "a b.wav", "grün.wav")
    data = line if isinstance(line, bytes) else line.format(cwd=Path.cwd()).encode()
    Path("music/list.m3u").write_bytes(b"#EXTM3U\r\n#EXTINF:3,A song\r\n" + data + b"\r\n")
    assert clean(find(lists=["music/list.m3u"])) == [file.format(cwd=Path.cwd())]


@pytest.mark.parametrize("name", ["song.wav", "file:song.wav", "sub/../song.wav", b"gr\xfcn.wav"])
def test_a_playlist_names_the_file_of_its_own_folder_before_that_of_the_working_directory(name):
    make("song.wav", "file:song.wav", "grün.wav", "sub/x")
    make("music/song.wav", "music/file:song.wav", "music/grün.wav", "music/sub/x")
    data = name if isinstance(name, bytes) else name.encode()
    expected = f"music/{name if isinstance(name, str) else name.decode('latin-1')}"
    assert clean(find(lists=write_list(data, "music/list.m3u"))) == [expected]
    assert clean(find(lists=write_list(data, f"{Path.cwd()}/music/list.m3u8"))) == [f"{Path.cwd()}/{expected}"]


PLS = "[playlist]\r\nFile1=here.wav\r\nTitle1=A song\r\nLength1=-1\r\n; File9=no.wav\r\nFile2 = a b.wav\r\nNumberOfEntries=2\r\nVersion=2\r\n"
XSPF = """<?xml version="1.0" encoding="UTF-8"?>
<playlist version="1" xmlns="http://xspf.org/ns/0/"><title>Ours</title><location>http://localhost/ours</location>
<trackList>
<track><location>here.wav</location><title>A song</title><location>again.mp3</location></track>
<track><title>Not File1=x</title><location>
  a%20b.wav
</location></track>
</trackList></playlist>
"""


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(("text", "ending"), [(PLS, ".pls"), (PLS, ""), (XSPF, ".xspf"), (XSPF, ".txt")])
def test_playlists_of_other_kinds_are_lists_too(text, ending, mark):
    make("here.wav", "music/here.wav", "music/a b.wav")
    found = find(lists=write_list((mark + text).encode(), f"music/list{ending}"))
    assert clean(found) == ["music/here.wav", "music/a b.wav"]


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [("[playlist]\nFile1=a.wav\na b.wav\n", "list:3", "write File1=NAME"),
     ("[playlist]\nNumberOfEntries=3\nFile1=a.wav\n", "list:4", "1 of 3 files are named in it"),
     (XSPF.replace("here.wav", "a.wav")[: XSPF.index("<track><title>")], "list:5", "not valid XML ("),
     (XSPF.replace("here.wav", "a.wav").replace("a%20b.wav", "&lt;&no;"), "list:6", "not valid XML (undefined entity")],
)  # fmt: skip
def test_a_line_of_a_playlist_that_is_wrong_costs_no_other(text, place, word):
    make("a.wav")
    found = find(lists=write_list(text.encode(), "list"))
    assert names(found) == ["a.wav"]
    ((_, problem),) = found.problems
    assert problem.startswith(f"{place}: ")
    assert word in problem


def test_a_playlist_that_would_grow_without_end_is_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>' + XSPF.split("?>\n")[1]
    make("here.wav")
    found = find(lists=write_list(bomb.encode(), "list.xspf"))
    assert not found.groups
    assert "a document type, which no playlist needs" in found.problems[0][1]


@pytest.mark.parametrize("ending", ["cue", "wpl", "asx", "CUE"])
def test_a_playlist_of_a_kind_that_is_not_read_has_one_line_with_the_fix(ending):
    make("a.wav")
    write_list(b'FILE "a.wav" WAVE\n  TRACK 01 AUDIO\n', f"list.{ending}")
    with pytest.raises(InputError) as caught:
        find(lists=[f"list.{ending}"])
    found = find("a.wav", f"list.{ending}")
    assert names(found) == ["a.wav"]
    fix = "--clip" if ending.lower() == "cue" else "save it as .m3u"
    assert fix in str(caught.value)
    assert fix in found.problems[0][1]


@pytest.mark.parametrize("name", ["caffeine.wav", "new_moov.wav", "ID3.flac", "MAC.wav"])
def test_a_list_whose_first_name_begins_like_a_sound_is_a_list(name, monkeypatch):
    make(name)
    assert clean(find(lists=write_list(f"{name}\n"))) == [name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{name}\n".encode())))
    assert clean(find(lists=["-"])) == [name]


@pytest.mark.parametrize("null", [False, True])
def test_a_sound_on_standard_input_is_no_list_of_names(null, monkeypatch):
    sound = Path(__file__).parent / "golden" / "1272-128104-0000.flac"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sound.read_bytes())))
    with pytest.raises(InputError, match="a sound, not a list of names; leave --files-from out"):
        find(lists=["-"], null=null)


def test_a_playlist_that_is_named_as_a_sound_is_a_problem_with_the_fix():
    write_list("b.flac\n", "list.m3u8")
    found = find("a.wav", "list.m3u8")
    assert names(found) == ["a.wav"]
    ((_, problem),) = found.problems
    assert "--files-from" in problem


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named(encoding):
    with pytest.raises(InputError, match="UTF-16 without a mark"):
        find(lists=write_list("a.wav\r\nb.wav\r\n".encode(encoding)))


def test_an_array_of_json_is_a_problem_with_the_fix():
    ((_, problem),) = find(lists=write_list('[{"audio": "a.wav"}, {"audio": "b.wav"}]\n')).problems
    assert "each object on a line of its own" in problem


# --- tables


def asked(found):
    """(sound, its own question) of each group."""
    return [(group.paths[0], group.prompt) for group in found.groups]


OPEN, STRAY = "is opened and not closed", "within a quoted cell; write it twice"


@pytest.mark.parametrize(
    ("rows", "line", "reason", "expected"),
    [
        ('b.flac,"x?\na.wav,y?\n', 2, OPEN, [("a.wav", "y?")]),
        ('b.flac,"x?\na.wav,y?\nb.flac,"z?"\n', 2, OPEN, [("a.wav", "y?"), ("b.flac", "z?")]),
        ('a.wav,y?\nb.flac,"x?', 3, OPEN, [("a.wav", "y?")]),
        ('b.flac,"is it a "man" or a woman?"\na.wav,y?\n', 2, STRAY, [("a.wav", "y?")]),
        ('a.wav,"of two\nlines?"\nb.flac,"x?\nb.flac,z?\n', 4, OPEN, [("a.wav", "of two\nlines?"), ("b.flac", "z?")]),
        ('b.flac,"x?\n' + "a.wav,y?\n" * 15_000, 2, OPEN, [("a.wav", "y?")]),
        (f"b.flac,{'x' * 140_000}\na.wav,y?\n", 2, "a cell of over 131072 characters", [("a.wav", "y?")]),
        ("b.flac,x\r?\na.wav,y?\n", 2, "end each row with a line feed", [("a.wav", "y?")]),
    ],
)
def test_a_record_that_cannot_be_read_costs_no_other_row(rows, line, reason, expected):
    found = find(lists=write_list(f"audio,prompt\n{rows}", "list.csv"))
    ((place, told),) = found.problems
    assert (place, asked(found)) == (f"list.csv:{line}", expected)
    assert reason in told


def test_every_row_with_an_open_quotation_mark_is_told_with_its_line():
    found = find(lists=write_list('audio,prompt\nb.flac,"x?\na.wav,"x?\nb.flac,y?\n', "list.csv"))
    assert [place for place, _ in found.problems] == ["list.csv:2", "list.csv:3"]
    assert asked(found) == [("b.flac", "y?")]


def test_a_wrong_row_is_told_with_the_line_where_it_begins():
    found = find(lists=write_list('audio,prompt\nb.flac,"of\ntwo",3\na.wav,y?\n', "list.csv"))
    assert [place for place, _ in found.problems] == ["list.csv:2"]
    assert asked(found) == [("a.wav", "y?")]


@pytest.mark.parametrize(
    "text", ['audio,"prompt\na.wav,x?\n', "audio,promt\na.wav,x?\n", "audio,prompt,prompt\na.wav,x?,y?\n"]
)
def test_of_a_table_whose_head_cannot_be_understood_nothing_is_answered(text):
    found = find(lists=write_list(text, "list.csv") + write_list("b.flac\n"))
    ((place, told),) = found.problems
    assert (place, names(found)) == ("list.csv:1", ["b.flac"])
    assert "the head of this table" in told


@pytest.mark.slow
def test_a_table_with_open_quotation_marks_is_not_held():
    """Neither where the next mark is far away nor where there is none."""
    rows = (f"a.wav,{'x' * 150}{number}\n" if number % 10_000 else 'a.wav,"x\n' for number in range(30_000))
    form = find_form("audio,prompt\n", ".csv")
    tracemalloc.start()
    found = sum(isinstance(group, Group) for _, group in from_table(itertools.chain(["audio,prompt\n"], rows), form))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 30_000 - 3
    assert peak < 1_000_000  # of 7 MB


@pytest.mark.parametrize(
    ("name", "text", "question"),
    [
        ("l.csv", "audio, prompt\na.wav, x?\n", "x?"),
        ("l.csv", 'audio, "prompt"\na.wav, "x, or y?"\n', "x, or y?"),
        ("l.csv", "Audio,PROMPT \na.wav,x?\n", "x?"),
        ("l.csv", "audio;prompt\na.wav;x, or y?\n", "x, or y?"),
        ("l.csv", 'Prompt;Audio\n"x; or y?";a.wav\n', "x; or y?"),
        ("l.csv", "sep=;\r\naudio;prompt\r\na.wav;x, or y?\r\n", "x, or y?"),
        ("l.csv", '"sep=,"\naudio,prompt\na.wav,x?\n', "x?"),
        ("l.csv", "SEP=|\naudio|prompt\na.wav|x?\n", "x?"),
        ("l.csv", "audio\tprompt\na.wav\tx, or y?\n", "x, or y?"),
        ("l.TSV", 'audio\tPrompt\na.wav\t"x?\n', '"x?'),
        ("l.csv", "audio,Question\na.wav,x?\n", "x?"),
        ("l.csv", "audio,prompt,prompts,question_id,Speaker\na.wav,x?,y?,7,me\n", "x?"),
        ("l.csv", "audio,prompt,Prompt\na.wav,x?,y?\n", "x?"),
        ("l.csv", "audio,question_id,languages spoken\na.wav,7,3\n", None),
        ("l.jsonl", '{"Audio": "a.wav", " Prompt": "x?"}\n', "x?"),
        ("l.jsonl", '  {"audio": "a.wav", "prompt": "x?"}\n', "x?"),
        ("l.jsonl", '\t{"audio": "a.wav", "prompt": "x?"} \r\n', "x?"),
    ],
)
def test_columns_are_understood_as_people_write_them(name, text, question):
    found = find(lists=write_list(text, name))
    assert clean(found) == ["a.wav"]
    assert found.groups[0].prompt == question


def test_a_space_in_front_belongs_to_a_name_unless_the_head_has_it_too():
    make(" a.wav", " {.wav")
    assert clean(find(lists=write_list("audio,prompt\n a.wav,x?\n", "list.csv"))) == [" a.wav"]
    assert clean(find(lists=write_list(" a.wav\n./ {.wav\n"))) == [" a.wav", "./ {.wav"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('"task": 5', '"task" must be a text'),
        ('"task": ["gender"]', '"task" must be a text'),
        ('"language": {}', '"language" must be a text'),
        ('"language": false', '"language" must be a text'),
        ('"source": 0', '"source" must be a text'),
        ('"text": {"en": "x"}', '"text" must be a text, a number or a list'),
        ('"gt": ["x", null]', '"gt" must be a text, a number or a list'),
        ('"text": true', '"text" must be a text, a number or a list'),
        ('"promt": "x?"', 'write "prompt"'),
        ('"Questions": "x?"', 'write "question"'),
        ('"tasks": "gender"', 'write "task"'),
        ('"langauge": "de"', 'write "language"'),
        ('"Prompt": "x?", "PROMPT": "y?"', "two columns"),
    ],
)
def test_a_value_that_is_not_understood_is_the_failure_of_its_row(row, reason):
    found = find(lists=write_list(f'{{"audio": "a.wav", {row}}}\n{{"audio": "b.flac", "text": 7, "gt": null}}\n'))
    ((place, told),) = found.problems
    assert (place, names(found), found.groups[0].references) == ("list.txt:1", ["b.flac"], ("7",))
    assert reason in told


# --- rows about the same sound


def test_rows_with_other_references_stay_apart_where_they_are_scored():
    rows = [
        {"audio": "a.wav", "text": "one"},
        {"audio": "./a.wav", "text": "two"},
        {"audio": "b.flac"},
        {"audio": "a.wav", "text": "one"},
        {"audio": "a.wav", "text": "two", "source": "set"},
        {"audio": "a.wav", "text": "two"},
        {"audio": "a.wav", "text": ["one", "two"], "prompt": "who?"},
        {"audio": ["a.wav", "b.flac"], "text": "x"},
        {"audio": ["a.wav", "b.flac"], "text": "y"},
    ]
    lists = write_json(*rows)
    found = find(lists=lists, score=("wer",))
    both = ("a.wav", "b.flac")
    assert names(found) == ["a.wav", "./a.wav", "b.flac", "a.wav", "a.wav", both, both]
    assert [bool(group.row) for group in found.groups] == [False, True, False, True, False, False, True]
    assert len({(group.paths, group.asked) for group in found.groups}) == len({*found.groups}) == 7
    assert found.skipped == ("a.wav: given before; it is answered once",) * 2
    plain = find(lists=lists)
    assert names(plain) == ["a.wav", "b.flac", "a.wav", both]
    assert not any(group.row for group in plain.groups)
    assert len(plain.skipped) == 5


def test_rows_that_stay_apart_take_turns_like_others():
    lists = write_json(*({"audio": "a.wav", "text": str(number)} for number in range(5)))
    parts = [find(lists=lists, score=("wer",), shard=(number, 2)) for number in (1, 2)]
    assert [[group.references for group in part.groups] for part in parts] == [
        [("0",), ("2",), ("4",)],
        [("1",), ("3",)],
    ]
    assert parts[0].whole == parts[1].whole
    assert [*parts[0].groups, *parts[1].groups][0].row == ""
    assert {group.row for group in parts[1].groups} == {'[["1"], null]', '[["3"], null]'}


def test_what_was_found_is_closed_when_nobody_needs_it():
    code = "from cli.inputs.spool import Spool\nSpool()"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
