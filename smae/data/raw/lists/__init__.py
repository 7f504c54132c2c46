"""Lists that come with smae: the official names of NTU RGB+D samples whose skeletons are missing or unusable."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def ntu_missing() -> frozenset[str]:
    """Return the 535 names that every published NTU-120 result leaves out.

    The 302 names of NTU-60 are those of them with setup 17 or less.
    """
    return frozenset(files(__name__).joinpath("ntu_missing.txt").read_text(encoding="ascii").split())
