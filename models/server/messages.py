"""Messages between a run and the process that keeps its model open: a header of JSON, and arrays as they lie in memory.

Nothing is executed on reading one (no pickle). Who may speak is decided by the folder of the socket, see `address`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Array = npt.NDArray[Any]


def send(
    connection: Connection[Any, Any], header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None
) -> None:
    """Send a header and named arrays; raises OSError when the other side is gone."""
    whole = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    shapes = {name: (array.dtype.str, array.shape) for name, array in whole.items()}
    connection.send_bytes(json.dumps({**header, "arrays": shapes}).encode())
    for array in whole.values():
        connection.send_bytes(array.reshape(-1).view(np.uint8).data)


def receive(connection: Connection[Any, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """The next header and its arrays; raises EOFError or OSError when the other side is gone."""
    header: dict[str, Any] = json.loads(connection.recv_bytes())
    arrays = {}
    for name, (dtype, shape) in header.pop("arrays").items():
        arrays[name] = np.frombuffer(connection.recv_bytes(), dtype).reshape(shape)
    return header, arrays
