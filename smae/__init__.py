"""smae: self-supervised skeleton action recognition, from raw recordings to evaluated encoders.

``import smae`` is instant: each function below brings in what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smae._version import __version__

if TYPE_CHECKING:
    from smae.api import (
        embed,
        evaluate,
        export_encoder,
        info,
        load_encoder,
        open_store,
        predict,
        prepare,
        pretrain,
        report,
        synthesise,
        verify,
        view,
    )

__all__ = [
    "__version__", "embed", "evaluate", "export_encoder", "info", "load_encoder", "open_store", "predict", "prepare",
    "pretrain", "report", "synthesise", "verify", "view",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        from smae import api

        return getattr(api, name)
    raise AttributeError(f"module 'smae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
