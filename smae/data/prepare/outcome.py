"""What became of one sample: a clip, left out by rule, or quarantined."""

from __future__ import annotations

from typing import Any, NamedTuple

from smae.data.raw.source import Refused


class Outcome(NamedTuple):
    """What became of one sample; a tuple, since there are a hundred thousand of these.

    Attributes:
        name: the sample.
        source: BLAKE3 of its bytes, hex; empty where it could not be read.
        frames: T of its clip, 0 without one.
        bodies: M of its clip, 0 without one.
        notes: what was accepted but is worth counting, or None.
        excluded: why it is left out by rule (``no-body``), or empty.
        refused: why it is quarantined, or None.
    """

    name: str
    source: str = ""
    frames: int = 0
    bodies: int = 0
    notes: dict[str, int] | None = None
    excluded: str = ""
    refused: Refused | None = None

    @property
    def rows(self) -> int:
        """Rows of its clip in the store."""
        return self.frames * self.bodies

    @classmethod
    def from_json(cls, values: list[Any]) -> Outcome:
        """Return the outcome of its values, ``refused`` as a dictionary."""
        refused = values[-1]
        return cls(*values)._replace(refused=Refused(**refused) if refused else None)
