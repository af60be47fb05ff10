"""Array files of a model directory (.npy) -> arrays."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import ModelError
from models.manifest import Manifest


def load_array(manifest: Manifest, file: str, *, mapped: bool = False) -> npt.NDArray[Any]:
    """The array in `file` of a model; with `mapped` it stays on disk and is read where it is looked at.

    Raises ModelError for a file of the right size that holds something else.
    """
    path = manifest.path(file)
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError from None
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise
        reason = getattr(error, "strerror", None) or "not an array"
        raise ModelError(f"{path}: damaged ({reason})", "convert or download this model again") from None
    return found
