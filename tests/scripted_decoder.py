"""A stand-in for `Decoder` that says what it was told to, and writes down what it was asked."""

from types import SimpleNamespace

import numpy as np

from errors import PromptError

UNKNOWN = 666  # an id that it refuses
AUDIO_START, AUDIO_END = 700, 701


class ScriptedDecoder:
    """Each prompt's first id tells which of `scripts` is said: {first id: ids}. `calls` is what was asked of it.

    A step of one id for each row is written down as ("advance", {row: id}), one with guesses as ("extend", {row: ids}).
    `guessed` is what each prompt was begun with.
    """

    def __init__(self, scripts, *, rows=1, max_positions=1000, takes_back_freely=False):
        self.rows, self.calls, self.guessed = rows, [], []
        self.sizes = SimpleNamespace(max_positions=max_positions, audio_start=AUDIO_START, audio_end=AUDIO_END)
        self.positions, self.groups, self._said = [0] * rows, [None] * rows, [0] * rows
        self.takes_back_freely = takes_back_freely
        self._scripts, self._script = scripts, [[]] * rows

    def begin(self, ids, clips, guesses, *, row, reuse):
        if UNKNOWN in ids:
            raise PromptError(f"token id {UNKNOWN} is outside this model's vocabulary")
        self.calls.append(("reuse" if reuse else "prefill", row, list(ids), list(clips)))
        self.guessed.append(list(guesses))
        self.positions[row], self._script[row], self._said[row] = len(ids), self._scripts[ids[0]], 1
        return np.stack([self._say(row), *(self._hear(row, guess) for guess in guesses)])

    def extend(self, new_ids):
        single = all(len(ids) == 1 for ids in new_ids.values())
        told = {row: ids[0] if single else list(ids) for row, ids in new_ids.items()}
        self.calls.append(("advance" if single else "extend", told))
        return {row: np.stack([self._hear(row, new_id) for new_id in ids]) for row, ids in new_ids.items()}

    def rewind(self, position, row):
        self._said[row] -= self.positions[row] - position
        self.positions[row] = position

    def _hear(self, row, new_id):
        """What comes after an id: the script's next one, and nonsense after what is not in the script."""
        self.positions[row] += 1
        assert self.positions[row] <= self.sizes.max_positions
        script, said = self._script[row], self._said[row]
        expected = script[said - 1] if said <= len(script) else None
        self._said[row] += 1
        return np.eye(100, dtype=np.float32)[script[said] if new_id == expected and said < len(script) else 98]

    def _say(self, row):
        return np.eye(100, dtype=np.float32)[self._script[row][0]]
