"""What was typed after --input -> the groups of sounds to ask about, one prompt each."""

from __future__ import annotations

import os
from pathlib import Path

EXTENSIONS = frozenset({".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})
STDIN = "-"


class InputError(Exception):
    """Nothing to work on: no input exists, or none in a folder is a sound."""


def find_groups(inputs: tuple[str, ...]) -> list[list[str]]:
    """The files among `inputs` form one group; each sound in a folder is a group of its own, in name order.

    A missing file stays in its group when another input exists, for the group's own failure to name it. Raises
    InputError when no input exists or matches.
    """
    folders = [name for name in inputs if name != STDIN and os.path.isdir(name)]  # noqa: PTH112 - Path("") is "."
    files = [name for name in inputs if name not in folders]
    groups = [[str(path)] for folder in folders for path in _sounds(Path(folder))]
    if not groups and not any(_exists(name) for name in files):
        missing = f"{', '.join(name or repr(name) for name in files)}: no such file; check the path"
        unfit = f"{', '.join(folders)}: no sound in it ({' '.join(sorted(EXTENSIONS))}); convert others with ffmpeg"
        raise InputError("; ".join([missing] * bool(files) + [unfit] * bool(folders)))
    return [files, *groups] if files else groups


def _exists(name: str) -> bool:
    """Whether something is there, even if it cannot be looked at."""
    try:
        return name == STDIN or bool(os.lstat(name))
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def _sounds(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return [folder]  # the folder itself becomes the input that fails: the rest of the run goes on
    return [path for path in found if path.suffix.lower() in EXTENSIONS and not os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises
