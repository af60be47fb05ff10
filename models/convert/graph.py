"""A thin ONNX writer: nodes by name, weights streamed to one external file, page-aligned.

In: calls that add inputs, weights and nodes in order. Out: `NAME.onnx` (small) and its data file (large). Knows
nothing of any architecture; the only file that builds ONNX protobufs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
# Mapping a weight straight from the file needs page alignment: 4 KB pages, 64 KB steps on Windows.
PAGE, LARGE_PAGE = 4096, 65536
# Constants below this size stay in the graph, where shape inference can read them.
INLINE_BYTES = 1024


class WeightsFile:
    """The external data of one graph, written in order and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.size = 0
        self.placed: dict[str, TensorProto] = {}  # by name: a second graph over the same weights writes nothing again

    def append(self, blocks: Iterable[Array], *, large: bool) -> tuple[int, int]:
        """Write blocks one after another from an aligned offset on; returns (offset, bytes)."""
        self._write(b"\0" * (-self.size % (LARGE_PAGE if large else PAGE)))
        start = self.size
        for block in blocks:
            self._write(np.ascontiguousarray(block).data.cast("B") if block.size else b"")
        return start, self.size - start

    def sha256(self) -> str:
        """SHA-256 of what was written."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, data: Any) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


class GraphBuilder:
    """Collects one graph. Every value is a name; `node` returns the name of its first output."""

    def __init__(self, name: str, weights: WeightsFile, *, opset: int, contrib: bool, floats: str = "float32") -> None:
        self.name, self.contrib = name, contrib  # whether ONNX Runtime's own operators may be used
        self.floats = floats  # type of the activations
        self._weights = weights
        self._opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid("com.microsoft", 1)] * contrib
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def input(self, name: str, dtype: str, shape: list[int | str]) -> str:
        """Declare a graph input; strings in `shape` are symbolic dimensions."""
        self._inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: list[int | str]) -> None:
        """Declare the value `name` a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape))

    def cast(self, value: str, dtype: str) -> str:
        """The value as another type."""
        return self.node("Cast", [value], to=DTYPES[dtype])

    def constant(self, value: npt.ArrayLike) -> str:
        """A small constant, shared between all its uses; integers are int64, and a Python float is float32."""
        array = np.asarray(value, "float32" if isinstance(value, float) else None)
        key = f"const.{array.dtype}.{list(array.shape)}.{hashlib.sha1(array.tobytes()).hexdigest()[:12]}"  # noqa: S324
        if key not in self._initializers:
            self.weight(key, array.dtype.name, array.shape, [array])
        return key

    def weight(self, name: str, dtype: str, shape: tuple[int, ...], blocks: Iterable[Array]) -> str:
        """A weight whose blocks (in row order) are streamed to the external file; small ones stay inline.

        What another graph wrote under this name is taken as it is, and `blocks` are not looked at.
        """
        assert name not in self._initializers, name
        if name not in self._weights.placed:
            self._weights.placed[name] = self._place(name, dtype, shape, blocks)
        self._initializers[name] = self._weights.placed[name]
        return name

    def _place(self, name: str, dtype: str, shape: tuple[int, ...], blocks: Iterable[Array]) -> TensorProto:
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if n_bytes < INLINE_BYTES:
            array = np.concatenate([np.asarray(block, dtype).reshape(-1) for block in blocks]).reshape(shape)
            return numpy_helper.from_array(array, name)
        offset, length = self._weights.append(blocks, large=n_bytes >= LARGE_PAGE)
        assert length == n_bytes, (name, length, n_bytes)
        tensor = TensorProto(name=name, data_type=DTYPES[dtype], dims=shape, data_location=TensorProto.EXTERNAL)
        location = {"location": self._weights.path.name, "offset": str(offset), "length": str(length)}
        for key, value in location.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    def node(self, op: str, inputs: list[str], outputs: str | list[str] = "", **attributes: Any) -> str:
        """Add a node; without `outputs` its one output gets a name of its own. Returns the first output's name.

        An operator written as "domain:Op" belongs to that domain.
        """
        domain, _, kind = op.rpartition(":")
        names = [outputs] if isinstance(outputs, str) else outputs
        names = [name or f"{kind}_{len(self._nodes)}" for name in names] if names == [""] else names
        self._nodes.append(helper.make_node(kind, inputs, names, f"n{len(self._nodes)}", domain=domain, **attributes))
        return names[0]

    def save(self, path: Path) -> None:
        """Write the graph, topologically ordered as it was built."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initializers.values())
        )
        # IR 8 is what opset 17 came with: the newest that every reader of opset 17 knows.
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=8, producer_name="qwen_audio")
        path.write_bytes(model.SerializeToString())
