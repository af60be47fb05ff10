"""A decoder in parts as one session: each part's output is the first input of the next.

The parts are opened at the same time. ONNX Runtime prepares the weights of a graph in one thread, which is most of the
time that a big model takes to open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from models.manifest import Graph, Manifest
from models.runtime.session import Array, Session, SessionOptions, open_session
from models.runtime.threads import together


def open_chain(manifest: Manifest, graphs: Sequence[Graph], options: SessionOptions, *, rows: int = 1) -> Session:
    """Open one graph, or several of which each goes on from the one before; raises BackendError as `open_session`."""
    if len(graphs) == 1:
        return open_session(manifest, graphs[0], options, rows=rows)
    openers = (partial(open_session, manifest, graph, options, rows=rows) for graph in graphs)
    return Chain(graphs, together(*openers))


class Chain:
    """Sessions run one after the other; each keeps the state of its own layers."""

    def __init__(self, graphs: Sequence[Graph], sessions: Sequence[Session]) -> None:
        self._parts = list(zip(graphs, sessions, strict=True))

    def run(
        self, feeds: Mapping[str, Array], *, rows: Sequence[int] = (0,), lengths: Sequence[int] = ()
    ) -> list[Array]:
        """Run every part once; returns the outputs of the last."""
        outputs: list[Array] = []
        for graph, session in self._parts:
            own = {name: feeds[name] for name in graph.inputs if name in feeds}
            outputs = session.run(own | dict(zip(graph.inputs, outputs, strict=False)), rows=rows, lengths=lengths)
        return outputs

    def rewind(self, length: int, *, row: int = 0) -> None:
        """Keep the first `length` positions of a row in every part."""
        for _, session in self._parts:
            session.rewind(length, row=row)
