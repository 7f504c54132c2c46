"""What became of one sample: a clip, left out by rule, or quarantined."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from smae.data.sources import Refused


@dataclass(frozen=True)
class Outcome:
    """What became of one sample.

    Attributes:
        name: the sample.
        source: BLAKE3 of its bytes, hex; empty where it could not be read.
        frames: T of its clip, 0 without one.
        bodies: M of its clip, 0 without one.
        notes: what was accepted but is worth counting.
        excluded: why it is left out by rule (``no-body``), or empty.
        refused: why it is quarantined, or None.
    """

    name: str
    source: str = ""
    frames: int = 0
    bodies: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    excluded: str = ""
    refused: Refused | None = None

    @property
    def rows(self) -> int:
        """Rows of its clip in the store."""
        return self.frames * self.bodies

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values, defaults left out."""
        # Not by ``asdict``, which copies everything deeply: there are a hundred thousand of these.
        values = {name: value for name in _FIELDS if (value := getattr(self, name)) or name == "name"}
        if self.refused is not None:
            values["refused"] = asdict(self.refused)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        """Return what ``to_json`` gave."""
        refused = values.get("refused")
        return cls(**{**values, "refused": Refused(**refused) if refused else None})


_FIELDS = tuple(field.name for field in fields(Outcome))
