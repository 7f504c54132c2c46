"""smae: self-supervised skeleton action recognition, from raw recordings to evaluated encoders.

``import smae`` is instant: each function below is imported from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from smae._version import __version__

if TYPE_CHECKING:
    # Type checkers and editors read these lines; they name the same modules as the table below.
    from smae.api import embed as embed
    from smae.api import evaluate as evaluate
    from smae.api import export_encoder as export_encoder
    from smae.api import info as info
    from smae.api import load_encoder as load_encoder
    from smae.api import open_store as open_store
    from smae.api import predict as predict
    from smae.api import prepare as prepare
    from smae.api import synthesise as synthesise
    from smae.api import verify as verify
    from smae.train.pretrain import pretrain as pretrain
    from smae.viz.report.run_report import report as report
    from smae.viz.view import view as view

_FUNCTIONS = {
    "embed": "smae.api",
    "evaluate": "smae.api",
    "export_encoder": "smae.api",
    "info": "smae.api",
    "load_encoder": "smae.api",
    "open_store": "smae.api",
    "predict": "smae.api",
    "prepare": "smae.api",
    "pretrain": "smae.train.pretrain",
    "report": "smae.viz.report.run_report",
    "synthesise": "smae.api",
    "verify": "smae.api",
    "view": "smae.viz.view",
}
"""Name of each public function, and the module that defines it."""

__all__ = [*_FUNCTIONS, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'smae' has no attribute {name!r}")
    function = getattr(importlib.import_module(_FUNCTIONS[name]), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return __all__
