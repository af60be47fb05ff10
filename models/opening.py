"""Opening the graphs of a model: in this process, or in the one that keeps them open between runs."""

from __future__ import annotations

from collections.abc import Sequence

from models.manifest import Graph, Manifest
from models.runtime.chain import open_chain
from models.runtime.session import Session, SessionOptions


def open_graphs(manifest: Manifest, graphs: Sequence[Graph], options: SessionOptions, *, rows: int = 1) -> Session:
    """Open one graph, or several of which each goes on from the one before, with a state of `rows` rows.

    Raises ModelError or BackendError.
    """
    if options.keep:
        from models.server.client import open_remote

        return open_remote(manifest, graphs, options, rows=rows)
    return open_chain(manifest, graphs, options, rows=rows)
