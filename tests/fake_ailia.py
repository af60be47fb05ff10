"""A stand-in for `ailia.Net` without its licence: the same calls, ONNX Runtime behind them.

As in ailia, everything crosses as float32 (get_blob_data then converts to the type of the blob), blobs keep their data
between runs, and copy_blob_data copies on the device. `moved` counts what visited the host: (method, blob name) -> times.
"""

from collections import Counter
from typing import ClassVar

import numpy as np
import onnxruntime as ort

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class FakeNet:
    made: ClassVar[list] = []  # every net, for a test to look at

    def __init__(
        self,
        stream=None,
        weight=None,
        env_id=-1,
        num_thread=0,
        memory_mode=None,
        debug_log=False,  # noqa: FBT002 - the real signature
        enable_layer_fusion=True,  # noqa: FBT002
    ):
        self.arguments = {"env_id": env_id, "num_thread": num_thread, "memory_mode": memory_mode}
        self.moved, self._data, self._shapes = Counter(), {}, {}
        if weight is None:
            return
        FakeNet.made.append(self)
        self._session = ort.InferenceSession(weight, providers=["CPUExecutionProvider"])
        self._inputs, self._outputs = self._session.get_inputs(), self._session.get_outputs()
        self._names = [one.name for one in (*self._inputs, *self._outputs)]
        self._types = {one.name: DTYPES[one.type] for one in (*self._inputs, *self._outputs)}

    def get_input_blob_list(self):
        return list(range(len(self._inputs)))

    def get_output_blob_list(self):
        return list(range(len(self._inputs), len(self._names)))

    def get_blob_name(self, idx):
        return self._names[idx]

    def find_blob_index_by_name(self, name):
        return self._names.index(name)

    def _name(self, idx):
        name = self._names[idx] if isinstance(idx, int) else idx
        assert name in self._names
        return name

    def set_input_blob_shape(self, shape, idx):
        self._shapes[self._name(idx)] = tuple(shape)

    def set_input_blob_data(self, input, idx):  # noqa: A002 - the real name
        name = self._name(idx)
        assert input.flags["C_CONTIGUOUS"]
        self.moved["set", name] += 1
        self.set_input_blob_shape(input.shape, idx)
        self._data[name] = input.astype(np.float32)

    def copy_blob_data(self, dst_idx, src_idx, src_net=None):
        source = (src_net or self)._data[self._name(src_idx)]  # there is none before a first run
        assert self._shapes[self._name(dst_idx)] == source.shape
        self._data[self._name(dst_idx)] = source.copy()

    def update(self):
        feeds = {one.name: self._data[one.name].astype(self._types[one.name]) for one in self._inputs}
        values = self._session.run(None, feeds)
        self._data |= {one.name: value.astype(np.float32) for one, value in zip(self._outputs, values, strict=True)}

    def get_blob_shape(self, idx):
        return self._data[self._name(idx)].shape

    def get_blob_data(self, idx, buffer=None):
        name = self._name(idx)
        self.moved["get", name] += 1
        return self._data[name].astype(self._types[name])
