"""What was typed after --input -> the groups of sounds to ask about, one prompt each."""

from __future__ import annotations

import os
from pathlib import Path

EXTENSIONS = frozenset({".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})


class InputError(Exception):
    """Nothing to work on: no input exists, or none in a folder is a sound."""


def find_groups(inputs: tuple[str, ...]) -> list[list[str]]:
    """The files among `inputs` form one group; each sound in a folder is a group of its own, in name order.

    A missing file stays in its group when another input exists, for the group's own failure to name it. Raises
    InputError when no input exists or matches.
    """
    files = [name for name in inputs if name == "-" or not Path(name).is_dir()]
    folders = [name for name in inputs if name not in files]
    if not folders and not any(name == "-" or os.path.lexists(name) for name in files):
        raise InputError(f"{', '.join(files)}: no such file; check the path")
    groups = [files] if files else []
    for folder in folders:
        groups += [[str(path)] for path in _sounds(Path(folder))]
    if not groups:
        kinds = " ".join(sorted(EXTENSIONS))
        raise InputError(f"{', '.join(folders)}: no sound in it ({kinds}); convert others with ffmpeg")
    return groups


def _sounds(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not path.is_dir())
    except PermissionError:
        # The folder itself becomes the input that fails: the rest of the run goes on.
        return [folder]
