"""The ailia backend: arrays cross as float32, and the state is copied from output to input on the device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from errors import BackendError
from models.manifest import Graph, Manifest
from models.runtime.session import (
    Array,
    SessionOptions,
    call_library,
    check_names,
    first_positions,
    one_line,
    zeros,
)

_NO_LICENCE = "ailia: no valid licence file AILIA.lic"
GET_LICENCE = (
    "the SDK fetches one over the network at its first start (terms: https://ailia.ai/license/en/), "
    "or put yours into ~/.shalo/; --backend onnxruntime needs none"
)
AILIA_LICENCE = f"{_NO_LICENCE}; {GET_LICENCE}"

_ONE_AT_A_TIME = threading.Lock()  # ailia looks at its licence when a network is made


class AiliaSession:
    """The ailia SDK's Net; inputs and outputs cross as float32, the state is copied from blob to blob on the device."""

    def __init__(self, manifest: Manifest, graph: Graph, options: SessionOptions, rows: int) -> None:
        assert rows == 1  # open_session has seen to it
        self._file, self._outputs, self._state = manifest.path(graph.file), graph.outputs, graph.state
        self._net = _ailia_net(
            weight=str(self._file), env_id=options.env_id, num_thread=options.threads, memory_mode=options.memory_mode
        )
        ends = (self._net.get_input_blob_list(), self._net.get_output_blob_list())
        check_names(manifest, graph, *([self._net.get_blob_name(index) for index in blobs] for blobs in ends))
        # What the next run starts from if not from the last run's output: no positions, or what a rewind left.
        self._kept: list[Array] | None = [zeros(graph.state, 0) for _ in graph.state.names] if graph.state else []

    @staticmethod
    def probe(options: SessionOptions) -> None:
        """Raise BackendError if this backend cannot start with these options: ailia checks its licence here."""
        _ailia_net(env_id=options.env_id, num_thread=options.threads, memory_mode=options.memory_mode)

    def run(
        self,
        feeds: Mapping[str, Array],
        *,
        rows: Sequence[int] = (0,),  # noqa: ARG002
        lengths: Sequence[int] = (),  # noqa: ARG002
    ) -> list[Array]:
        """Run once; returns the outputs that are not state. Raises BackendError when the library fails."""
        return call_library(self._file, lambda: self._run(feeds))  # type: ignore[no-any-return]

    def rewind(self, length: int, *, row: int = 0) -> None:  # noqa: ARG002
        """Forget the state from position `length` on: what remains is copied to the host once."""
        if self._state and length == 0:
            self._kept = [zeros(self._state, 0) for _ in self._state.names]
        elif self._state:
            axis = self._state.shape.index(-1)
            held = self._kept or [self._net.get_blob_data(produced) for produced, _ in self._state.names]
            self._kept = [np.ascontiguousarray(first_positions(value, axis, length)) for value in held]

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        net = self._net
        for name, value in feeds.items():
            net.set_input_blob_data(np.ascontiguousarray(value), name)
        for i, (produced, consumed) in enumerate(self._state.names if self._state else ()):
            if self._kept is not None:
                net.set_input_blob_data(self._kept[i], consumed)
            else:
                net.set_input_blob_shape(net.get_blob_shape(produced), consumed)
                net.copy_blob_data(consumed, produced)
        net.update()
        self._kept = None
        return [net.get_blob_data(name) for name in self._outputs]


def list_environments() -> list[str]:
    """ailia's environments, a line each, by the number that --env_id takes; raises BackendError without ailia."""
    try:
        import ailia

        found = ailia.get_environment_list()
    except Exception as error:  # noqa: BLE001 - no package, no library in it, or any error of that library
        raise BackendError(
            f"ailia's environments cannot be listed: {one_line(error)}", fix="`pip install ailia`"
        ) from None
    return [f"--env_id {one.id}: {one.type} {one.name} ({one.backend})" for one in found]


def _ailia_net(**arguments: Any) -> Any:
    """An `ailia.Net`; raises BackendError in place of what ailia raises, a missing licence above all."""
    try:
        import ailia
    except (ImportError, OSError) as error:  # no package, or its native library does not load
        raise BackendError(f"ailia is not installed ({error})", fix="`pip install ailia`") from None
    logging.getLogger("ailia").addHandler(logging.NullHandler())  # its warnings repeat what we say
    try:
        with _ONE_AT_A_TIME:
            return ailia.Net(**arguments)
    except (TypeError, OSError, KeyError):
        # With neither a licence file nor a network, the package compares a date with None; where its folder cannot be
        # made, or the user has no home, it raises what the system did.
        raise BackendError(_NO_LICENCE, fix=GET_LICENCE) from None
    except ailia.core.AiliaException as error:
        if "icense" in type(error).__name__ + str(error):
            raise BackendError(_NO_LICENCE, fix=GET_LICENCE) from None
        raise BackendError(f"ailia cannot open {arguments.get('weight', 'a network')}: {one_line(error)}") from None
