"""The backend seam: who runs a graph. Nobody else in the project can see which library does.

`open_session` opens one graph of a manifest. A session takes arrays by input name and gives arrays in the order of the
graph's outputs. The graph's state (the cache) stays inside the session, on its device, in rows: one for each sequence
that may run side by side.

Adding a backend: a file in this folder with a class like `Backend`, and its line in `models.manifest.BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from errors import BackendError
from models.manifest import BACKENDS, Graph, Manifest, State
from models.runtime.cpu import thread_limit
from models.runtime.shortage import shortage

Array = npt.NDArray[Any]

IDLE_POSITIONS = 2  # what a slot without a row writes to: the least that a run makes


@dataclass(frozen=True)
class SessionOptions:
    """Which backend and how it runs; `threads` 0 is one for each core that may be used.

    `device` is "cpu" or an ONNX Runtime provider such as "cuda:0"; `env_id` (-1: automatic), `memory_mode` are ailia's.
    With `keep` a process of its own opens the graphs and keeps them open for so many seconds after this run (see
    `models.server`). `wait` is how many seconds this run waits for its turn there; None is as long as it takes.
    """

    backend: str = "auto"
    device: str = "cpu"
    threads: int = 0
    env_id: int = -1
    memory_mode: int = 11
    keep: float = 0.0
    wait: float | None = None


class Session(Protocol):
    """One open graph and the state that it keeps between runs, in rows."""

    def run(
        self, feeds: Mapping[str, Array], *, rows: Sequence[int] = (0,), lengths: Sequence[int] = ()
    ) -> list[Array]:
        """Run once for some rows, one in each slot of the state; `lengths` are the positions that they hold then.

        Returns the outputs that are not state.
        """

    def rewind(self, length: int, *, row: int = 0) -> None:
        """Keep the first `length` positions of a row."""


class Backend(Session, Protocol):
    """The session class of one library, which is imported when it starts and not before."""

    def __init__(self, manifest: Manifest, graph: Graph, options: SessionOptions, rows: int) -> None:
        """Open a graph; raises BackendError."""

    @staticmethod
    def probe(options: SessionOptions) -> None:
        """Raise BackendError if the library cannot start with these options."""


def backend_class(name: str) -> type[Backend]:
    """The class of a backend, by its name in BACKENDS."""
    found: type[Backend] = getattr(import_module(f"models.runtime.{name}"), BACKENDS[name])
    return found


def open_session(manifest: Manifest, graph: Graph, options: SessionOptions, *, rows: int = 1) -> Session:
    """Open one graph of a model, its state in `rows` rows.

    Raises BackendError when no backend that the manifest allows can open it. Several rows need a state that is kept in
    place: the graphs of a plain model hand out a new state on every run, for one sequence at a time.
    """
    if rows > 1 and graph.state and not graph.state.in_place:
        raise BackendError(
            f"{manifest.directory}: a plain model decodes one answer at a time",
            fix="use --batch 1, or convert it with --flavour fused for ONNX Runtime",
        )
    if options.backend == "auto":
        options = replace(options, backend=choose_backend(manifest, options)[0])
    _check_allowed(manifest, options.backend)
    options = replace(options, threads=options.threads or thread_limit())
    # Not probed again: opening the graph tells as much, and each start of ailia is one more look at its licence.
    return backend_class(options.backend)(manifest, graph, options, rows)


def choose_backend(manifest: Manifest, options: SessionOptions) -> tuple[str, list[str]]:
    """The backend that runs this model, and why each one before it in the manifest's order cannot.

    "auto" takes the first that can start; a named one must be allowed by the manifest and start.
    """
    if options.backend != "auto":
        _check_allowed(manifest, options.backend)
    failures: list[BackendError] = []
    for name in manifest.backends if options.backend == "auto" else (options.backend,):
        try:
            backend_class(name).probe(options)
        except BackendError as failure:
            failures.append(failure)
        else:
            return name, [str(failure) for failure in failures]
    raise failures[0] if len(failures) == 1 else BackendError("; ".join(map(str, failures)))


def _check_allowed(manifest: Manifest, backend: str) -> None:
    if backend not in manifest.backends:
        allowed = ", ".join(manifest.backends)
        raise BackendError(
            f"{manifest.directory}: this model runs on {allowed}, not on {backend}",
            fix="convert it with --flavour plain for ailia, or choose another --backend",
        )


def call_library(path: Any, call: Callable[[], Any]) -> Any:
    """Call a backend's library; any error becomes a BackendError of one line that names the graph."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - native libraries raise types of their own, none of them documented
        weights = sum(file.stat().st_size for file in Path(path).parent.glob("*") if file.is_file())
        if lack := shortage(str(path), weights, threads=2 * thread_limit()):
            raise lack from None
        raise BackendError(f"{path}: {one_line(error)}", fix="convert or download this model again") from None


def one_line(error: Exception) -> str:
    """The text of a library's error, in at most 800 characters."""
    return " ".join(str(error).split())[:800] or type(error).__name__


def check_names(manifest: Manifest, graph: Graph, inputs: list[str], outputs: list[str]) -> None:
    """Raise BackendError unless a graph has the inputs and outputs that its manifest names."""
    state = graph.state.names if graph.state else ()
    for kind, wanted, found in (
        ("input", [*graph.inputs, *(consumed for _, consumed in state)], inputs),
        ("output", [*graph.outputs, *(produced for produced, _ in state)], outputs),
    ):
        for name in wanted:
            if name not in found:
                raise BackendError(
                    f"{manifest.path(graph.file)}: no {kind} named {name}", fix="the manifest does not fit it"
                )


def zeros(state: State, length: int, *, rows: int = 1) -> Array:
    """One tensor of a state with `length` positions in each row, all 0."""
    return np.zeros([rows, *(length if size == -1 else size for size in state.shape[1:])], state.dtype)


def first_positions(array: Array, axis: int, length: int) -> Array:
    """A view of the first `length` positions, which lie along `axis`."""
    return array[(slice(None),) * axis + (slice(0, length),)]
