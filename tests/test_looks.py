"""What a name in a long list is: said of a folder's entries, as a look at each name says it."""

import os

import pytest

from cli.inputs import looks as module
from cli.inputs.looks import Looks


@pytest.fixture
def counted(monkeypatch):
    """The names that were looked at one by one."""
    found, whole = [], os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: found.append(path) or whole(path))
    return found


@pytest.fixture
def folder(tmp_path):
    """A hundred sounds, and what looks like some."""
    for number in range(100):
        (tmp_path / f"{number}.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("1.wav")
    (tmp_path / "broken.wav").symlink_to("none")
    os.mkfifo(tmp_path / "pipe.wav")
    return tmp_path


ODD = ["folder.wav", "link.wav", "broken.wav", "pipe.wav", "none.wav", "", ".", "..", "\0", "1.wav/", "\ud800"]


@pytest.mark.parametrize("form", ["{}", "./{}", "{}/", "{}//"])
def test_a_name_in_a_row_of_many_is_what_it_is_alone(folder, monkeypatch, counted, form):
    monkeypatch.chdir(folder.parent)
    prefix = form.format(folder.name) + "/" * (not form.endswith("/"))
    looks = Looks()
    for _ in range(2):
        assert all(looks.is_file(f"{prefix}{number}.wav") for number in range(100))
        assert not any(looks.is_file(f"{prefix}{name}") for name in ODD)
    assert len(counted) < 120  # of 222


def test_names_without_a_folder_are_in_the_working_directory(folder, monkeypatch, counted):
    monkeypatch.chdir(folder)
    looks = Looks()
    assert all(looks.is_file(f"{number}.wav") for number in range(100))
    assert not any(looks.is_file(f"/{number}.wav") for number in range(100))  # the folder / is another
    assert len(counted) < 200


def test_few_names_and_names_from_here_and_there_are_looked_at_and_no_folder_is_read(folder, monkeypatch):
    monkeypatch.setattr(os, "scandir", None)
    (folder / "sub").mkdir()
    (folder / "sub" / "a.wav").write_bytes(b"")
    looks = Looks()
    assert all(looks.is_file(f"{folder}/{number}.wav") for number in range(module._MANY - 1))
    for number in range(100):
        assert looks.is_file(f"{folder}/sub/a.wav")
        assert looks.is_file(f"{folder}/{number}.wav")


def test_of_a_large_folder_no_more_is_held_than_said(folder, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 10)
    looks = Looks()
    for _ in range(3):
        assert all(looks.is_file(f"{folder}/{number}.wav") for number in range(100))
    assert len(looks._files) < 10 + module._MORE


def test_a_folder_that_cannot_be_read_is_no_hindrance(folder, monkeypatch):
    def fail(_):
        raise PermissionError

    monkeypatch.setattr(os, "scandir", fail)
    looks = Looks()
    assert all(looks.is_file(f"{folder}/{number}.wav") for number in range(100))
    assert not looks.is_file(f"{folder}/none.wav")


@pytest.mark.filterwarnings("error")
def test_a_folder_that_is_left_half_read_is_closed(folder, monkeypatch):
    looks, opened, whole = Looks(), [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(whole(path)) or opened[-1])
    assert all(looks.is_file(f"{folder}/{number}.wav") for number in range(module._MANY))
    assert len(opened) == 1
    looks.leave()
    assert list(opened[0]) == []
    assert looks._files == set()
