"""What is written beside a sound about what is said in it: `a.txt` for `a.flac`, or LibriSpeech's `*.trans.txt`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cli.inputs.text import decode, is_whole
from errors import InputError


def text_beside(path: str) -> str | None:
    """The text that lies beside a sound, or None. Raises InputError for one that is not UTF-8."""
    sound = Path(path)
    try:
        own = sound.with_suffix(".txt")
        text = decode(own.read_bytes()) if own.is_file() else _transcripts(sound.parent).get(sound.stem)
    except (OSError, ValueError):  # standard input, or what cannot be read: there is none
        return None
    if text is not None and not is_whole(text):
        raise InputError(f"{path}: the text beside it is not UTF-8", "save it so", kind="reference")
    return None if text is None else " ".join(text.split())


@lru_cache(maxsize=64)
def _transcripts(folder: Path) -> dict[str, str]:
    """Of a chapter of LibriSpeech: name without ending -> text."""
    lines = [
        line
        for path in sorted(folder.glob("*.trans.txt"))
        if path.is_file()
        for line in decode(path.read_bytes()).splitlines()
    ]
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in lines) if name}
