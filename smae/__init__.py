"""smae: self-supervised skeleton action recognition, from raw recordings to evaluated encoders.

``import smae`` is instant: each function below is imported from its module when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

try:
    import fcntl as _fcntl  # noqa: F401

    os.O_NOFOLLOW  # noqa: B018
except (ImportError, AttributeError):
    raise ImportError(
        "smae runs on Linux and macOS; on Windows, install and run it inside WSL "
        "(https://learn.microsoft.com/windows/wsl)"
    ) from None

__version__ = "0.1.0"

if TYPE_CHECKING:
    # Type checkers and editors read these lines; they name the same modules as the table below.
    from smae.data.export import export as export
    from smae.data.prepare.explain import explain as explain
    from smae.data.prepare.run import prepare as prepare
    from smae.data.prepare.run import write_recordings as write_recordings
    from smae.data.raw.keypoints import from_keypoints as from_keypoints
    from smae.data.raw.video import capture as capture
    from smae.data.raw.video import setup_capture as setup_capture
    from smae.data.store import find_store as find_store
    from smae.data.store import open_store as open_store
    from smae.data.store.convert import convert as convert
    from smae.data.store.convert import map_store as map_store
    from smae.data.store.info import classes as classes
    from smae.data.store.info import dataset_card as dataset_card
    from smae.data.store.info import info as info
    from smae.data.store.own_splits import split as split
    from smae.data.store.verify import verify as verify
    from smae.data.synthetic.synth import synthesise as synthesise
    from smae.diagnostics import doctor as doctor
    from smae.eval.embed import embed as embed
    from smae.eval.ensemble import ensemble as ensemble
    from smae.eval.evaluate import evaluate as evaluate
    from smae.eval.export import export_encoder as export_encoder
    from smae.eval.export import load_encoder as load_encoder
    from smae.eval.exported_program import export_program as export_program
    from smae.eval.follow import follow as follow
    from smae.eval.import_weights import import_weights as import_weights
    from smae.eval.modules import Embedder as Embedder
    from smae.eval.modules import knn_probe as knn_probe
    from smae.eval.modules import linear_probe as linear_probe
    from smae.eval.predict import predict as predict
    from smae.eval.status import status as status
    from smae.testing import new as new
    from smae.train.pretrain import pretrain as pretrain
    from smae.viz.report import report as report
    from smae.viz.view import view as view

_MODULES = {
    "smae.data.export": "export",
    "smae.data.prepare.explain": "explain",
    "smae.data.prepare.run": "prepare write_recordings",
    "smae.data.raw.keypoints": "from_keypoints",
    "smae.data.raw.video": "capture setup_capture",
    "smae.data.store.convert": "convert map_store",
    "smae.data.store.info": "classes dataset_card info",
    "smae.data.store.own_splits": "split",
    "smae.data.store": "find_store open_store",
    "smae.data.store.verify": "verify",
    "smae.data.synthetic.synth": "synthesise",
    "smae.diagnostics": "doctor",
    "smae.eval.embed": "embed",
    "smae.eval.ensemble": "ensemble",
    "smae.eval.evaluate": "evaluate",
    "smae.eval.export": "export_encoder load_encoder",
    "smae.eval.exported_program": "export_program",
    "smae.eval.follow": "follow",
    "smae.eval.import_weights": "import_weights",
    "smae.eval.modules": "Embedder knn_probe linear_probe",
    "smae.eval.predict": "predict",
    "smae.eval.status": "status",
    "smae.testing": "new",
    "smae.train.pretrain": "pretrain",
    "smae.viz.report": "report",
    "smae.viz.view": "view",
}
_FUNCTIONS = {name: module for module, names in _MODULES.items() for name in names.split()}
"""Name of each public function, and the module that defines it."""

__all__ = [*sorted(_FUNCTIONS), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'smae' has no attribute {name!r}")
    function = getattr(importlib.import_module(_FUNCTIONS[name]), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return __all__
