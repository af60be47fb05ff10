"""The ONNX Runtime backend: the state of a graph stays in buffers of the device, bound to its inputs and outputs."""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from errors import BackendError, command
from models.manifest import Graph, Manifest, State
from models.runtime.cpu import may_saturate
from models.runtime.session import (
    IDLE_POSITIONS,
    Array,
    SessionOptions,
    call_library,
    check_names,
    first_positions,
    one_line,
    zeros,
)

# Read when the library is loaded: it would report to its maker, and complain where it finds no folder to write to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# An in-place cache is reserved in steps: small enough to cost no memory unused, large enough to be copied rarely.
CAPACITY_STEP = 256
GPU_FIX = "`pip install 'onnxruntime-gpu[cuda,cudnn]'` instead of onnxruntime, and see `nvidia-smi` for the driver"


def session_settings(threads: int) -> Any:
    """What every graph of ours is opened with; `threads` 0 is the library's choice."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # a failure is raised and told once, in our words
    settings.enable_mem_pattern = False  # every prompt has another length
    # Threads that wait busily for the next run would take the processor from the graph whose turn it is.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if may_saturate():
        settings.add_session_config_entry("session.x64quantprecision", "1")  # half as fast, and right
    return settings


class OnnxRuntimeSession:
    """ONNX Runtime with IOBinding: the state stays in buffers on the session's device and never reaches the caller."""

    def __init__(self, manifest: Manifest, graph: Graph, options: SessionOptions, rows: int) -> None:
        import onnxruntime as ort

        self._ort = ort
        provider, self._device, self._device_id = find_provider(options.device)
        check_flavour(manifest, graph, self._device)
        settings = session_settings(options.threads)
        path = manifest.path(graph.file)
        providers: list[Any] = [(provider, {"device_id": self._device_id})] if self._device != "cpu" else [provider]
        # Without its fallback to another provider, which prints on standard output.
        self._session = call_library(
            path, lambda: ort.InferenceSession(str(path), settings, providers=providers, enable_fallback=0)
        )
        if self._session.get_providers()[0] != provider:
            raise BackendError(f"--device {options.device}: {provider} did not start{missing_library()}", fix=GPU_FIX)
        check_names(manifest, graph, *([one.name for one in ends] for ends in self._ends()))
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
        call_library(self._file, lambda: self._bind_feeds(feeds))  # a manifest of the wrong contract feeds other names
        if self._state and self._state.in_place:
            self._reserve(max(lengths))
            self._bind_rows(tuple(rows))
        for name in self._outputs:
            self._binding.bind_output(name)
        if self._state and not self._state.in_place:
            for (produced, consumed), value in zip(self._state.names, self._held, strict=True):
                self._binding.bind_ortvalue_input(consumed, value)
                self._binding.bind_output(produced, self._device, self._device_id)
        call_library(self._file, lambda: self._session.run_with_iobinding(self._binding))
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
            self._held = [self._value(first_positions(value.numpy(), axis, length).copy()) for value in self._held]

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
            self._idle = self._value(zeros(self._state, IDLE_POSITIONS))
        elif self._state:
            self._held = [self._value(zeros(self._state, 0)) for _ in self._state.names]

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
            grown = _mapped_zeros(self._state, self._capacity, rows=len(self._lengths))
            if held:
                old = held[i].numpy()
                for row, kept in enumerate(self._lengths):
                    self._copy_row(old[row], grown[row], kept)
                held[i] = None  # freed one by one: two whole caches never stand side by side
            self._held.append(self._value(grown))

    def _bind_rows(self, rows: tuple[int, ...]) -> None:
        """Bind a row to each slot: its part of every buffer, as the input and as the output that replaces it."""
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
        first_positions(target, axis, length)[...] = first_positions(source, axis, length)

    def _value(self, array: Array) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, self._device_id)


def find_provider(device: str) -> tuple[str, str, int]:
    """ONNX Runtime's provider for "cpu", "cuda", "cuda:1", "coreml", …: (provider, device type, device number)."""
    available = available_providers()
    kind, _, number = device.lower().partition(":")
    if kind not in available or (number and not number.isdecimal()):
        raise BackendError(
            f"--device {device}: not in the installed ONNX Runtime, which has {', '.join(sorted(available))}",
            fix=GPU_FIX if kind == "cuda" else "",
        )
    if kind == "cuda":
        import onnxruntime as ort

        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()  # pip's CUDA libraries lie where the system's loader does not look
    # Only CUDA-like providers own device memory; the others take and give host memory.
    return available[kind], kind if kind in {"cuda", "rocm"} else "cpu", int(number or 0)


def available_providers() -> dict[str, str]:
    """Device, such as "cuda" -> provider, for all that the installed ONNX Runtime was built for.

    Whether a device has its driver shows when it is used. Azure's provider is left out: it asks a server.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        raise BackendError("onnxruntime is not installed", fix="`pip install onnxruntime`") from None
    names = {name.removesuffix("ExecutionProvider").lower(): name for name in ort.get_available_providers()}
    return {device: name for device, name in names.items() if device != "azure"}


def check_flavour(manifest: Manifest, graph: Graph, device: str) -> None:
    """Raise BackendError for a model made for a CPU on another device, where its operators do not exist."""
    if device != "cpu" and graph.state and graph.state.in_place and graph.state.dtype == "float32":
        raise BackendError(
            f"{manifest.directory}: this model is made for a CPU, not for --device {device}",
            fix=f"convert its checkpoint with `{command('python3 -m models.convert --flavour cuda CHECKPOINT MODEL')}`",
        )


def missing_library() -> str:
    """What the loader says when it is asked for ONNX Runtime's CUDA library; empty if it has nothing to say."""
    import onnxruntime as ort

    folder = Path(ort.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return f" ({one_line(error)})"
    return ""


def _mapped_zeros(state: State, length: int, *, rows: int) -> Array:
    """Like `zeros`, in memory that is taken when it is written to and given back to the system as soon as it is freed.

    The heap would keep what a grown cache leaves behind: 0.27 GB of the full model after 200 new tokens [measured].
    """
    shape = [rows, *(length if size == -1 else size for size in state.shape[1:])]
    kind = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    room = mmap.mmap(-1, math.prod(shape) * np.dtype(state.dtype).itemsize, **kind)
    return np.frombuffer(room, state.dtype).reshape(shape)
