"""The names of NTU RGB+D samples: ``SsssCcccPpppRrrrAaaa`` to its five numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile("".join(f"{letter}((?!000)[0-9]{{3}})" for letter in "SCPRA"))


@dataclass(frozen=True)
class SampleName:
    """What the name of one NTU sample says; all numbers are 1-based.

    Attributes:
        setup: place and height of the cameras, 1-17 in NTU-60, 1-32 in NTU-120.
        camera: 1-3.
        subject: performer, 1-40 in NTU-60, 1-106 in NTU-120.
        replication: 1 or 2.
        action: 1-60 in NTU-60, 1-120 in NTU-120.
    """

    setup: int
    camera: int
    subject: int
    replication: int
    action: int

    def __str__(self) -> str:
        return f"S{self.setup:03}C{self.camera:03}P{self.subject:03}R{self.replication:03}A{self.action:03}"


def is_name(text: str) -> bool:
    """Tell whether ``text`` is of the form of NTU's names: what ``parse_name`` reads."""
    return _FORM.fullmatch(text) is not None


def parse_name(text: str) -> SampleName | None:
    """Return the numbers of an NTU name, or None where ``text`` is not of that form.

    Only the form counts: five letters with three ASCII digits each, none of the numbers 0. Numbers beyond NTU's own
    pass, so that other recordings may use the same names.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    setup, camera, subject, replication, action = map(int, match.groups())
    return SampleName(setup=setup, camera=camera, subject=subject, replication=replication, action=action)
