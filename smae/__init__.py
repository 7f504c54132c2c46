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
    from smae.api import load_encoder as load_encoder
    from smae.api import predict as predict
    from smae.api import prepare as prepare
    from smae.api import synthesise as synthesise
    from smae.data.export.base import export as export
    from smae.data.store.info import classes as classes
    from smae.data.store.info import dataset_card as dataset_card
    from smae.data.store.info import info as info
    from smae.data.store.store import find_store as find_store
    from smae.data.store.store import open_store as open_store
    from smae.data.store.verify import verify as verify
    from smae.train.pretrain import pretrain as pretrain
    from smae.viz.report.run_report import report as report
    from smae.viz.view import view as view

_FUNCTIONS = {
    "classes": "smae.data.store.info",
    "dataset_card": "smae.data.store.info",
    "embed": "smae.api",
    "evaluate": "smae.api",
    "export": "smae.data.export.base",
    "export_encoder": "smae.api",
    "find_store": "smae.data.store.store",
    "info": "smae.data.store.info",
    "load_encoder": "smae.api",
    "open_store": "smae.data.store.store",
    "predict": "smae.api",
    "prepare": "smae.api",
    "pretrain": "smae.train.pretrain",
    "report": "smae.viz.report.run_report",
    "synthesise": "smae.api",
    "verify": "smae.data.store.verify",
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
