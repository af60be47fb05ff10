"""What output files are called: short where that is enough, never twice, never too long, never outside the folder."""

import os
import random
import time
from pathlib import Path

import pytest

from cli.inputs.listing import Group
from cli.output.filenames import DIGITS, LONGEST, Filenames, other_name
from cli.output.formats import FORMATS


def plan_filenames(groups, folders=()):
    filenames = Filenames(groups, folders)
    return {group: filenames.stem(group) for group in groups}


def stems(*names, folders=()):
    """The stems of inputs, one name each or a tuple of names for several in one prompt; a hash is written as #."""
    groups = [Group((name,) if isinstance(name, str) else name) for name in names]
    planned = plan_filenames(groups, folders)
    assert len(set(planned.values())) == len(set(groups))
    return [hashless(planned[group]) for group in groups]


def hashless(stem):
    head, _, tail = stem.rpartition("-")
    return head + "-#" if len(tail) == DIGITS and set(tail) <= set("0123456789abcdef") else stem


@pytest.mark.parametrize(
    ("names", "planned"),
    [
        (["talk.flac"], ["talk"]),
        (["some/where/talk.flac", "/else/where/music.mp3"], ["talk", "music"]),
        (["a.b.wav", "noending", ".wav", "-"], ["a.b", "noending", ".wav", "stdin"]),
        (["-", "stdin.wav"], ["stdin", "stdin.wav"]),
        (["a.wav", "a.flac", "b.wav"], ["a.wav", "a.flac", "b"]),
        (["x/a.wav", "y/a.wav", "a.flac"], ["a.wav-#", "a.wav-#", "a.flac"]),
        (["a.wav", "a.flac", "a.wav.mp3"], ["a.wav-#", "a.flac", "a.wav.mp3-#"]),
        ([("a.wav", "b.wav"), "a.wav"], ["a+1", "a"]),
        ([("a.wav", "b.wav"), ("a.wav", "c.wav"), ("a.wav", "b.wav", "c.wav")], ["a.wav+1-#", "a.wav+1-#", "a+2"]),
        (["A.wav", "a.wav"], ["A.wav-#", "a.wav-#"]),
        (["caf\u00e9.wav", "cafe\u0301.flac"], ["caf\u00e9.wav", "cafe\u0301.flac"]),
        (["talk.txt", "talk.JSON.wav", "x.json"], ["talk.txt", "talk.JSON", "x.json"]),
        (["talk.txt", "talk.wav"], ["talk.txt", "talk.wav"]),
        (["talk.txt", "talk.txt.wav", "other.wav"], ["talk.txt-#", "talk.txt.wav-#", "other"]),
        (["", "..", "/"], ["unnamed-#", "..", "unnamed-#"]),
        (["a b\n'\"\\.wav", "\udcff.wav", "\ud800.wav", "\0.wav"], ["a b\n'\"\\", "\udcff", "\ud800", "\0"]),
    ],
)
def test_a_name_is_as_short_as_it_can_be(names, planned):
    assert stems(*names) == planned


@pytest.mark.parametrize(
    ("folders", "names", "planned"),
    [
        (["data"], ["data/a.wav", "data/x/a.wav", "data/x/y/a.wav"], ["a", "x/a", "x/y/a"]),
        (["data/"], ["data/x/a.wav", "data/x/a.flac"], ["x/a.wav", "x/a.flac"]),
        (["./data", "/in"], ["data/x/a.wav", "/in/x/a.wav", "else/x/a.wav"], ["x/a.wav-#", "x/a.wav-#", "a"]),
        (["."], ["x/a.wav", "a.wav", "../a.wav"], ["x/a", "a.wav-#", "a.wav-#"]),
        (["data", "data/x"], ["data/x/a.wav"], ["x/a"]),
        (["data"], ["data/../../etc/a.wav", "data"], ["a", "data"]),
        ([".", "../up"], ["../up/x/a.wav"], ["x/a"]),
        (["data"], ["data/a.wav", "data/a.txt/b.wav", "data/b.Json/c.d/e.wav"], ["a", "a.txt_/b", "b.Json_/c.d/e"]),
        (["-"], ["-"], ["stdin"]),
    ],
)
def test_what_lies_below_a_folder_keeps_its_place(folders, names, planned):
    assert stems(*names, folders=folders) == planned


def test_two_questions_about_one_sound_have_two_names():
    one, two = Group(("a.wav",), "who?"), Group(("a.wav",), "where?")
    planned = plan_filenames([one, two])
    assert [hashless(planned[group]) for group in (one, two)] == ["a.wav-#", "a.wav-#"]
    assert planned[one] != planned[two]


@pytest.mark.parametrize("char", ["x", "ü", "大", "😀", "\udcff"])
@pytest.mark.parametrize("ending", [".wav", ".flac", ""])
def test_a_name_that_the_file_system_takes_as_input_has_outputs(char, ending, tmp_path):
    longest = char * ((255 - len(ending)) // len(os.fsencode(char))) + ending
    (tmp_path / longest).touch()
    groups = [Group((str(tmp_path / longest),)), Group((str(tmp_path / longest), "b.wav")), Group(("b/" + longest,))]
    planned = plan_filenames(groups)
    assert len(set(planned.values())) == 3
    for stem in planned.values():
        assert len(os.fsencode(stem)) <= LONGEST
        for fmt in FORMATS:
            (tmp_path / f"{stem}.{fmt}").write_text("fits")


def test_the_order_of_the_inputs_makes_no_difference_nor_how_they_are_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    letters = random.Random(1)
    names = sorted({"".join(letters.choices("ab/.A", k=6)) + letters.choice([".wav", ".txt"]) for _ in range(300)})
    planned = plan_filenames([Group((name,)) for name in names], ["a", "b"])
    letters.shuffle(names)
    assert plan_filenames([Group((name,)) for name in names], ["b", "a"]) == planned
    assert all(not stem.startswith("/") and ".." not in Path(stem).parts[:-1] for stem in planned.values())
    plain, absolute = (
        plan_filenames([Group((f"{where}x/a.wav",)), Group((f"{where}y/a.wav",))]) for where in ("", f"{tmp_path}/")
    )
    assert list(plain.values()) == list(absolute.values())


@pytest.mark.slow
def test_thousands_of_names_are_planned_quickly():
    groups = [Group((f"corpus/{i % 300}/{i // 3}.{ending}",)) for i in range(3_000) for ending in ("wav", "mp3", "ogg")]
    start = time.process_time()
    planned = plan_filenames(groups, ["corpus"])
    assert len(set(planned.values())) == len(groups)
    assert time.process_time() - start < 10


def test_another_name_is_short_enough_for_every_file_system():
    stem = "mon/" + 80 * "\uc7a5"
    (folder, name) = other_name(stem, "0123456789ab").split("/")
    assert (folder, name[-13:]) == ("mon", "-0123456789ab")
    assert 230 < len(f"{name}.json".encode()) <= 255
