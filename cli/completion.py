"""`--completion`: a script that completes the flags in a shell, made by shtab from the parser itself.

    eval "$(./qwen_audio.py --completion bash)"        # in ~/.bashrc; zsh likewise
    ./qwen_audio.py --completion fish | source         # in ~/.config/fish/config.fish

It serves `qwen_audio.py …` and `./qwen_audio.py …`, not `python3 qwen_audio.py …`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence


def completion(parser: argparse.ArgumentParser, shell: str, *, words: Mapping[str, Sequence[str]]) -> str:
    """The script for "bash", "zsh" or "fish"; `words` are values by the destination of a flag without choices."""
    import shtab

    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        metavar = str(action.metavar or "")
        if action.dest in words:
            action.choices = list(words[action.dest])
        elif "FILE" in metavar or "DIR" in metavar:
            action.complete = shtab.DIRECTORY if "DIR" in metavar else shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script
