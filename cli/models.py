"""Which model directory to open when none is named."""

from __future__ import annotations

import os
from pathlib import Path

from cli.arguments import ROOT
from models.manifest import FILE_NAME, ManifestError

VARIABLE = "QWEN_AUDIO_MODEL"


def find_model(named: Path | None) -> Path:
    """The directory named on the command line, else in $QWEN_AUDIO_MODEL, else the only model under models/.

    Raises ManifestError saying how to get one, or which ones there are to choose from.
    """
    if named is not None:
        return named
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    found = sorted(path.parent for path in (ROOT / "models").glob(f"*/{FILE_NAME}"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path.relative_to(ROOT)) for path in found)
        raise ManifestError(f"several models are installed, choose one with --model: {names}")
    from models.download import describe_missing

    raise ManifestError(describe_missing("Qwen-Audio-Chat"))
