"""From a run to an encoder that stands alone: written as a folder with its model card, or used at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from smae.atomic_io import read_json
from smae.data.loader.augment import Augment
from smae.data.store.store import Store
from smae.errors import DataError
from smae.eval.evaluate import load_objective, load_trained
from smae.eval.export import read_weights, write_weights
from smae.eval.model_card import model_card
from smae.models.encoders import Encoder
from smae.skeleton import LAYOUTS
from smae.train.run_folder import Run

Say = Callable[[str], None]


def export_encoder(run: Run, to: Path, *, step: Path | None, overwrite: bool, say: Say) -> Path:
    """Write a run's encoder to ``to``; see ``smae.api.export_encoder``."""
    about = run.describe()
    layout = LAYOUTS.get(about["store"]["layout"])
    config, objective, checkpoint = load_trained(run, layout, step=step, say=say)
    done = {key: checkpoint.state[key] for key in ("step", "steps")}
    results = [
        read_json(path, what="results", remedy="run smae eval again") for path in sorted(run.results.glob("*.json"))
    ]
    origin: dict[str, Any] = {key: about.get(key) for key in ("recipe", "versions")}
    store = {key: value for key, value in about["store"].items() if key != "path"}  # nobody else has that path
    return write_weights(
        to,
        objective.encoder,
        encoder=config.encoder.model_dump(mode="json"),
        augment=config.augment,
        layout=layout,
        origin={**origin, **done, "run": run.path.name, "store": store, "config": about["config"]},
        card=model_card(
            name=run.path.name, about=about, steps=f"step {done['step']:,} of {done['steps']:,}", results=results
        ),
        overwrite=overwrite,
    )


def encoder_for(
    where: Path | Run, step: Path | None, store: Store, *, say: Say
) -> tuple[Encoder, Augment, dict[str, str]]:
    """Return the encoder of an exported folder or a run, how clips are cropped for it, and where it is from.

    Raises:
        DataError: the store's joints are laid out otherwise, or there are no usable weights.
    """
    if isinstance(where, Run):
        config, objective = load_objective(where, store, step=step, say=say)
        return objective.encoder, config.augment, {"encoder": where.path.name, "store": store.fingerprint}
    found = read_weights(where)
    if found.layout.name != store.layout.name:
        raise DataError(
            f"{where} was trained on layout {found.layout.name}, {store.path} holds {store.layout.name}: its weights "
            "know the joints of that layout alone"
        )
    return found.encoder, found.stated.augment, {"encoder": where.name, "store": store.fingerprint}
