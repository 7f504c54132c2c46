"""The model card of exported weights: what they were trained on, by which recipe, what they reach, what may be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def model_card(*, name: str, about: Mapping[str, Any], steps: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Return a model card in Markdown.

    Args:
        name: of the run.
        about: its ``run.json``.
        steps: how far training had come, for people.
        results: the contents of its result files.
    """
    config, store, versions = about["config"], about["store"], about["versions"]
    frames, patch = config["augment"]["frames"], config["encoder"].get("patch", "?")
    lines = [
        f"# {name}",
        "",
        f"A `{config['encoder']['name']}` encoder of skeleton clips, pre-trained without labels by "
        f"`{config['objective']['name']}` with smae {versions.get('smae', '?')}.",
        "",
        "## Trained on",
        "",
        f"- data set `{store.get('dataset')}`, train part of `{config['protocol']}`; the store has "
        f"{store.get('clips', 0):,} clips, {store.get('mode')} mode, fingerprint `{store.get('fingerprint')}`",
        f"- joints: layout `{store.get('layout')}`; clips resized to {frames} frames, patches of {patch}; "
        f"stream `{config['augment']['stream']}`",
        f"- recipe `{about.get('recipe')}`, seed {config['seed']}, {steps}",
        "",
        "## Settings",
        "",
        *[f"- {part}: {_told(config[part])}"
          for part in ("objective", "masking", "encoder", "decoder", "augment", "optim", "train")],
        "",
        "## Results",
        "",
        *_results(results),
        "",
        "## Use",
        "",
        "```python",
        "import smae",
        "",
        'encoder = smae.load_encoder("this-folder")  # joints float32 [N, frames, joints, 3], metres -> [N, tokens, D]',
        "```",
        "",
        "`smae embed STORE --encoder this-folder --to features.npz` writes the features of a prepared store.",
        "",
        "## Licence",
        "",
        f"smae's code is under Apache-2.0. These weights were learned from the recordings of `{store.get('dataset')}`: "
        "what may be done with them also depends on that data set's terms, which are its owners' to tell. They are "
        "given as they are, for research; they were not tested for any use in which a person could come to harm.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _told(section: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in section.items())


def _results(results: Sequence[Mapping[str, Any]]) -> list[str]:
    if not results:
        return ["None yet: `smae eval` makes them."]
    lines = ["| protocol | probe | what | selection | seeds | top-1 % |", "|---|---|---|---|---|---|"]
    for result in results:
        for row in result["rows"]:
            spread = f" ± {100 * row['std']:.1f}" if row.get("std") is not None else ""
            cells = (result["protocol"], row["mode"], row["what"], row.get("selection", "last"), row.get("seeds", 1))
            lines.append(f"| {' | '.join(map(str, cells))} | {100 * row['top1']:.1f}{spread} |")
    return lines
