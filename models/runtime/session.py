"""The backend seam: who runs a graph. Nobody else in the project can see which library does.

`open_session` opens one graph of a manifest. A session takes arrays by input name and gives arrays in the order of
the graph's outputs; the graph's state (the cache) stays inside the session, on its device: in rows, one for each of the
sequences that may run side by side. Adding a backend: one more class here and its name in BACKENDS.
"""

from __future__ import annotations

import logging
import math
import mmap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from errors import BackendError
from models.manifest import Graph, Manifest, State
from models.runtime.cpu import may_saturate, thread_limit

Array = npt.NDArray[Any]

# An in-place cache is reserved in steps: small enough to cost no memory unused, large enough to be copied rarely.
CAPACITY_STEP = 256
IDLE_POSITIONS = 2  # what a slot without a row writes to: the least that a run makes
AILIA_LICENCE = (
    "ailia: no valid licence file AILIA.lic; the SDK fetches one over the network at its first start "
    "(terms: https://ailia.ai/license/en/), or put yours into ~/.shalo/; --backend onnxruntime needs none"
)

_ONE_AT_A_TIME = threading.Lock()  # ailia looks at its licence when a network is made


@dataclass(frozen=True)
class SessionOptions:
    """Which backend and how it runs; `threads` 0 is one for each core that may be used.

    `device` is "cpu" or an ONNX Runtime provider such as "cuda:0"; `env_id` (-1: automatic), `memory_mode` are ailia's.
    `keep` is for how many seconds a process of its own keeps the graphs open after this one (see `models.server`).
    """

    backend: str = "auto"
    device: str = "cpu"
    threads: int = 0
    env_id: int = -1
    memory_mode: int = 11
    keep: float = 0.0


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


class OnnxRuntimeSession:
    """ONNX Runtime with IOBinding: the state lives in buffers of the session's device and never visits the caller."""

    def __init__(self, manifest: Manifest, graph: Graph, options: SessionOptions, rows: int) -> None:
        import onnxruntime as ort

        self._ort = ort
        provider, self._device, self._device_id = find_provider(options.device)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = 4  # a failure is raised and told once, in our words
        settings.enable_mem_pattern = False  # every prompt has another length
        # Threads that wait busily for the next run would take the processor from the graph whose turn it is.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        if may_saturate():
            settings.add_session_config_entry("session.x64quantprecision", "1")  # half as fast, and right
        path = manifest.path(graph.file)
        providers: list[Any] = [(provider, {"device_id": self._device_id})] if self._device != "cpu" else [provider]
        self._session = _guard(path, lambda: ort.InferenceSession(str(path), settings, providers=providers))
        if self._session.get_providers()[0] != provider:
            raise BackendError(
                f"--device {options.device}: {provider} did not start", fix="its driver or libraries are missing"
            )
        _check_names(manifest, graph, *([one.name for one in ends] for ends in self._ends()))
        self._file, self._outputs, self._state = path, graph.outputs, graph.state
        self._binding = self._session.io_binding()
        self._held: list[Any] = []  # one OrtValue for each tensor of the state
        self._lengths = [0] * rows  # positions held by each row
        self._capacity = 0
        self._bound: tuple[int, ...] = ()  # the rows of the state that the next run will see
        self._idle: Any = None  # what a slot without a row looks into
        self._start()

    @staticmethod
    def probe(options: SessionOptions) -> None:
        """Raise BackendError if this backend cannot start with these options."""
        find_provider(options.device)

    def run(
        self, feeds: Mapping[str, Array], *, rows: Sequence[int] = (0,), lengths: Sequence[int] = ()
    ) -> list[Array]:
        """Run once; returns the outputs that are not state. Raises BackendError when the library fails."""
        _guard(self._file, lambda: self._bind_feeds(feeds))  # a manifest of the wrong contract feeds other names
        if self._state and self._state.in_place:
            self._reserve(max(lengths))
            self._bind_rows(tuple(rows))
        for name in self._outputs:
            self._binding.bind_output(name)
        if self._state and not self._state.in_place:
            for (produced, consumed), value in zip(self._state.names, self._held, strict=True):
                self._binding.bind_ortvalue_input(consumed, value)
                self._binding.bind_output(produced, self._device, self._device_id)
        _guard(self._file, lambda: self._session.run_with_iobinding(self._binding))
        for row, length in zip(rows, lengths, strict=False):  # a graph without state has neither
            self._lengths[row] = length
        values = dict(zip(self._names(), self._binding.get_outputs(), strict=True))
        if self._state and not self._state.in_place:
            self._held = [values[produced] for produced, _ in self._state.names]
            self._binding.clear_binding_outputs()
        return [values[name].numpy() for name in self._outputs]

    def rewind(self, length: int, *, row: int = 0) -> None:
        """Forget a row from position `length` on; a cache in place is simply overwritten by what comes next."""
        self._lengths[row] = length
        if self._state and not self._state.in_place:
            axis = self._state.shape.index(-1)
            # A copy: an OrtValue made from a view would outlive the memory of the one that it looks into.
            self._held = [self._value(_head(value.numpy(), axis, length).copy()) for value in self._held]

    def _bind_feeds(self, feeds: Mapping[str, Array]) -> None:
        for name, value in feeds.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(value))

    def _ends(self) -> tuple[list[Any], list[Any]]:
        return self._session.get_inputs(), self._session.get_outputs()

    def _names(self) -> list[str]:
        """Output names in the order in which they were bound."""
        produced = [name for name, _ in self._state.names] if self._state else []
        return produced + list(self._outputs) if self._state and self._state.in_place else [*self._outputs, *produced]

    def _start(self) -> None:
        if self._state and self._state.in_place:
            self._reserve(CAPACITY_STEP)
            self._idle = self._value(_empty(self._state, IDLE_POSITIONS))
        elif self._state:
            self._held = [self._value(_empty(self._state, 0)) for _ in self._state.names]

    def _reserve(self, length: int) -> None:
        """Make room for `length` positions in every row, keeping what is there."""
        assert self._state
        if length <= self._capacity:
            return
        wanted = max(length, self._capacity + self._capacity // 4)
        self._capacity = -(-wanted // CAPACITY_STEP) * CAPACITY_STEP
        self._bound = ()
        held, self._held = self._held, []
        for i in range(len(self._state.names) // self._state.slots):
            grown = _reserved(self._state, self._capacity, rows=len(self._lengths))
            if held:
                old = held[i].numpy()
                for row, kept in enumerate(self._lengths):
                    self._copy_row(old[row], grown[row], kept)
                held[i] = None  # freed one by one: two whole caches never stand side by side
            self._held.append(self._value(grown))

    def _bind_rows(self, rows: tuple[int, ...]) -> None:
        """Show the run a row in each slot: its piece of every buffer, which past and present share."""
        assert self._state
        assert len(set(rows)) == len(rows) <= self._state.slots
        assert all(0 <= row < len(self._lengths) for row in rows)  # outside lies memory of others
        if rows == self._bound:
            return
        self._binding.clear_binding_outputs()
        dtype, slots = np.dtype(self._state.dtype).type, self._state.slots
        for number, (produced, consumed) in enumerate(self._state.names):
            value, slot = self._held[number // slots], number % slots
            if slot < len(rows):
                start = value.data_ptr() + rows[slot] * (value.tensor_size_in_bytes() // len(self._lengths))
            else:
                value = self._idle
                start = value.data_ptr()
            place = (self._device, self._device_id, dtype, [1, *value.shape()[1:]], start)
            self._binding.bind_input(consumed, *place)
            self._binding.bind_output(produced, *place)
        self._bound = rows

    def _copy_row(self, source: Array, target: Array, length: int) -> None:
        assert self._state
        axis = self._state.shape.index(-1) - 1  # of one row
        _head(target, axis, length)[...] = _head(source, axis, length)

    def _value(self, array: Array) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, self._device_id)


class AiliaSession:
    """The ailia SDK's Net; inputs and outputs cross as float32, the state is copied from blob to blob on the device."""

    def __init__(self, manifest: Manifest, graph: Graph, options: SessionOptions, rows: int) -> None:
        assert rows == 1  # open_session has seen to it
        self._file, self._outputs, self._state = manifest.path(graph.file), graph.outputs, graph.state
        self._net = _ailia_net(
            weight=str(self._file), env_id=options.env_id, num_thread=options.threads, memory_mode=options.memory_mode
        )
        ends = (self._net.get_input_blob_list(), self._net.get_output_blob_list())
        _check_names(manifest, graph, *([self._net.get_blob_name(index) for index in blobs] for blobs in ends))
        # What the state starts from when it is not the last run's output: zero positions, or what a rewind kept.
        self._kept: list[Array] | None = [_empty(graph.state, 0) for _ in graph.state.names] if graph.state else []

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
        return _guard(self._file, lambda: self._run(feeds))  # type: ignore[no-any-return]

    def rewind(self, length: int, *, row: int = 0) -> None:  # noqa: ARG002
        """Forget the state from position `length` on: what is kept visits the host once."""
        if self._state and length == 0:
            self._kept = [_empty(self._state, 0) for _ in self._state.names]
        elif self._state:
            axis = self._state.shape.index(-1)
            held = self._kept or [self._net.get_blob_data(produced) for produced, _ in self._state.names]
            self._kept = [np.ascontiguousarray(_head(value, axis, length)) for value in held]

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


BACKENDS: dict[str, type[OnnxRuntimeSession | AiliaSession]] = {
    "onnxruntime": OnnxRuntimeSession,
    "ailia": AiliaSession,
}


def open_session(manifest: Manifest, graph: Graph, options: SessionOptions, *, rows: int = 1) -> Session:
    """Open one graph of a model, its state in `rows` rows.

    Raises BackendError when no backend that the manifest allows can do it, and for several rows of a state that is not
    kept in place: such a graph hands out a new state on every run, one sequence at a time.
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
    return BACKENDS[options.backend](manifest, graph, options, rows)


def open_together(*openers: Callable[[], Any]) -> list[Any]:
    """Open several things at the same time, each in a thread, since a library opens a graph on one core.

    Returns what they gave, in order; raises what the first of them raised. Ctrl-C reaches the caller meanwhile.
    """
    found: list[Any] = [None] * len(openers)
    failures: dict[int, BaseException] = {}

    def work(number: int) -> None:
        try:
            found[number] = openers[number]()
        except BaseException as failure:  # noqa: BLE001 - raised again on the caller's side
            failures[number] = failure

    threads = [
        threading.Thread(target=work, args=(number,), name="qwen-audio ahead", daemon=True)
        for number in range(len(openers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)  # Windows sees Ctrl-C only between two waits
    if failures:
        raise failures[min(failures)]
    return found


def choose_backend(manifest: Manifest, options: SessionOptions) -> tuple[str, list[str]]:
    """The backend that runs this model, and why each one before it in the manifest's order cannot.

    "auto" takes the first that can start; a named one must be allowed by the manifest and start.
    """
    if options.backend != "auto":
        _check_allowed(manifest, options.backend)
    reasons: list[str] = []
    for name in manifest.backends if options.backend == "auto" else (options.backend,):
        try:
            BACKENDS[name].probe(options)
        except BackendError as error:
            reasons.append(str(error))
        else:
            return name, reasons
    raise BackendError("; ".join(reasons))


def _check_allowed(manifest: Manifest, backend: str) -> None:
    if backend not in manifest.backends:
        allowed = ", ".join(manifest.backends)
        raise BackendError(
            f"{manifest.directory}: this model runs on {allowed}, not on {backend}",
            fix="convert it with --flavour plain for ailia, or choose another --backend",
        )


def find_provider(device: str) -> tuple[str, str, int]:
    """ONNX Runtime's provider for "cpu", "cuda", "cuda:1", "coreml", …: (provider, device type, device number)."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise BackendError("onnxruntime is not installed", fix="`pip install onnxruntime`") from None
    kind, _, number = device.lower().partition(":")
    available = {name.removesuffix("ExecutionProvider").lower(): name for name in ort.get_available_providers()}
    if kind not in available or (number and not number.isdecimal()):
        raise BackendError(
            f"--device {device}: not in the installed ONNX Runtime, which has {', '.join(sorted(available))}"
            + ("; `pip install onnxruntime-gpu`" if kind == "cuda" else "")
        )
    # Only CUDA-like providers own device memory; the others take and give host memory.
    return available[kind], kind if kind in {"cuda", "rocm"} else "cpu", int(number or 0)


def list_environments() -> list[str]:
    """ailia's environments, a line each, by the number that --env_id takes; raises BackendError without ailia."""
    try:
        import ailia

        found = ailia.get_environment_list()
    except Exception as error:  # noqa: BLE001 - no package, no library in it, or whatever that library raises
        raise BackendError(
            f"ailia's environments cannot be listed: {_line(error)}", fix="`pip install ailia`"
        ) from None
    return [f"--env_id {one.id}: {one.type} {one.name} ({one.backend})" for one in found]


def _ailia_net(**arguments: Any) -> Any:
    """An `ailia.Net`; raises BackendError in place of what ailia raises, a missing licence above all."""
    try:
        import ailia
    except (ImportError, OSError) as error:  # no package, or a library of its that does not load
        raise BackendError(f"ailia is not installed ({error})", fix="`pip install ailia`") from None
    logging.getLogger("ailia").addHandler(logging.NullHandler())  # its warnings repeat what we say
    try:
        with _ONE_AT_A_TIME:
            return ailia.Net(**arguments)
    except (TypeError, OSError, KeyError):
        # With neither a licence file nor a network, the package compares a date with None; where its folder cannot be
        # made, or the user has no home, it raises what the system did.
        raise BackendError(AILIA_LICENCE) from None
    except ailia.core.AiliaException as error:
        if "icense" in type(error).__name__ + str(error):
            raise BackendError(AILIA_LICENCE) from None
        raise BackendError(f"ailia cannot open {arguments.get('weight', 'a network')}: {_line(error)}") from None


def _guard(path: Any, call: Callable[[], Any]) -> Any:
    """Call into a library; whatever it raises becomes a BackendError of one line that names the graph."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - native libraries raise types of their own, none of them documented
        raise BackendError(f"{path}: {_line(error)}", fix="convert or download this model again") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_names(manifest: Manifest, graph: Graph, inputs: list[str], outputs: list[str]) -> None:
    """The graph must have the inputs and outputs that the manifest promises."""
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


def _empty(state: State, length: int, *, rows: int = 1) -> Array:
    return np.zeros([rows, *(length if size == -1 else size for size in state.shape[1:])], state.dtype)


def _reserved(state: State, length: int, *, rows: int) -> Array:
    """Zeros like `_empty`'s, in memory that is taken as it is written to and given back at once when it is let go.

    The heap keeps what a cache that has grown leaves: 0.27 GB of the full model after 200 new tokens [measured].
    """
    shape = [rows, *(length if size == -1 else size for size in state.shape[1:])]
    kind = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    room = mmap.mmap(-1, math.prod(shape) * np.dtype(state.dtype).itemsize, **kind)
    return np.frombuffer(room, state.dtype).reshape(shape)


def _head(array: Array, axis: int, length: int) -> Array:
    return array[(slice(None),) * axis + (slice(0, length),)]
