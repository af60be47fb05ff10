"""A set of hashes of 16 bytes that holds 16 bytes for each: a million are soon read, and soon looked up."""

from __future__ import annotations

from collections.abc import Sequence

SIZE = 16  # bytes of a token
_RECENT = 10_000  # tokens that wait to be sorted in


class Tokens:
    """Tokens that were added; not for several threads at a time."""

    def __init__(self) -> None:
        """Empty."""
        self._sorted, self._recent = bytearray(), set[bytes]()

    def __len__(self) -> int:
        """How many were put in, the same one perhaps twice."""
        return len(self._sorted) // SIZE + len(self._recent)

    def add(self, token: bytes) -> None:
        """Put one in."""
        self._recent.add(token)
        if len(self._recent) > _RECENT:
            self.extend(b"".join(self._recent))
            self._recent.clear()

    def extend(self, tokens: bytes | bytearray) -> None:
        """Put many in, that stand one behind the other."""
        import numpy as np

        if tokens:  # numpy takes no empty buffer
            self._sorted += tokens
            found = np.frombuffer(self._sorted, f"S{SIZE}")  # zeros at an end are of no account: all are as long
            found.sort()  # in place

    def have(self, tokens: Sequence[bytes | None]) -> list[bool]:
        """Whether each of them is there; None never is."""
        if not self._sorted:
            return [token in self._recent for token in tokens]
        import numpy as np

        ours = np.frombuffer(self._sorted, f"S{SIZE}")
        asked = np.frombuffer(b"".join(token or bytes(SIZE) for token in tokens), ours.dtype)
        is_there = ours[np.minimum(np.searchsorted(ours, asked), len(ours) - 1)] == asked
        pairs = zip(tokens, is_there.tolist(), strict=True)
        return [token is not None and (found or token in self._recent) for token, found in pairs]
