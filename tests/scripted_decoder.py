"""A stand-in for `Decoder` that says what it was told to, and writes down what it was asked."""

from types import SimpleNamespace

import numpy as np

from decoder.decoder import PromptError

UNKNOWN = 666  # an id that it refuses


class ScriptedDecoder:
    """Each prompt's first id tells which of `scripts` is said: {first id: ids}. `calls` is what was asked of it."""

    def __init__(self, scripts, *, rows=1, max_positions=1000):
        self.rows, self.calls, self.sizes = rows, [], SimpleNamespace(max_positions=max_positions)
        self.positions, self.groups, self._left = [0] * rows, [None] * rows, [[]] * rows
        self._scripts = scripts

    def prefill(self, ids, clips, *, row, reuse):
        if UNKNOWN in ids:
            raise PromptError(f"token id {UNKNOWN} is outside this model's vocabulary")
        self.calls.append(("reuse" if reuse else "prefill", row, list(ids), list(clips)))
        self.positions[row], self._left[row] = len(ids), list(self._scripts[ids[0]])
        return self._say(row)

    def advance(self, new_ids):
        self.calls.append(("advance", dict(new_ids)))
        for row in new_ids:
            self.positions[row] += 1
            assert self.positions[row] <= self.sizes.max_positions
        return {row: self._say(row) for row in new_ids}

    def move(self, source, target):
        self.calls.append(("move", source, target))
        for each in (self._left, self.positions, self.groups):
            each[target] = each[source]

    def _say(self, row):
        return np.eye(100, dtype=np.float32)[self._left[row].pop(0)]
