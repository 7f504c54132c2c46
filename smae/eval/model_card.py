"""Model card of an exported encoder: training data, recipe, settings, results, licence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smae.eval.results import RULE, Result
from smae.train.run_folder import stores_of

SECTIONS = ("objective", "masking", "encoder", "decoder", "augment", "optim", "train")

TEMPLATE = """\
{front}# {name}

A `{config[encoder][name]}` encoder of skeleton clips, pre-trained without labels by \
`{config[objective][name]}` with smae {version}.

## Trained on

- data set `{store[dataset]}`, train part of `{protocol}`; the store has \
{store[clips]:,} clips, {store[mode]} mode, fingerprint `{store[fingerprint]}`
- joints: layout `{store[layout]}`; clips resized to {config[augment][frames]} frames, \
patches of {patch}; stream `{config[augment][stream]}`
- recipe `{recipe}`, seed {config[seed]}, {steps}

## Settings

{settings}

## Results

{results}

## Use

```python
import smae

# joints float32 [N, frames, joints, 3], metres -> features [N, tokens, D]
encoder = smae.load_encoder("this-folder")
```

`smae embed STORE --encoder this-folder --out features.npz` writes the features of a prepared store.

## Licence

smae's code is under Apache-2.0. These weights were learned from the recordings of \
`{store[dataset]}`: their use also depends on the terms of that data set, which its owners set. \
They are provided as they are, for research; they were not tested for any use in which a person \
could come to harm.
"""


def model_card(
    *,
    name: str,
    about: Mapping[str, Any],
    config: Mapping[str, Any],
    steps: str,
    sha256: str = "",
    results: Sequence[Result] = (),
) -> str:
    """Return a model card in Markdown.

    Args:
        name: name of the run.
        about: content of its ``run.json``.
        config: its settings, checked.
        steps: how far it was trained, for people.
        sha256: of the encoder's weights; results of others are marked.
        results: one of each protocol and probe.
    """
    settings = [
        f"- {section}: " + ", ".join(f"{key} {value}" for key, value in config[section].items()) for section in SECTIONS
    ]
    parts = [one.get("protocol", config["protocol"]) for one in stores_of(about["store"]).values()]
    if config["init"]:
        steps += f", begun with `{Path(config['init']).name}`, whose data and licence count too"
    return TEMPLATE.format(
        front=front_matter(config["objective"]["name"], config["encoder"]["name"], about["store"].get("dataset", "")),
        name=name,
        config=config,
        protocol="+".join(parts),
        store=defaultdict(str, {"clips": 0} | about["store"]),
        version=about["versions"].get("smae", "?"),
        patch=config["encoder"].get("patch", "?"),
        recipe=about.get("recipe"),
        steps=steps,
        settings="\n".join(settings),
        results="\n".join(_results(results, sha256)),
    )


def front_matter(*tags: str) -> str:
    """Return the YAML block that begins a model card, in the keys of the Hugging Face Hub."""
    known = dict.fromkeys(("skeleton", "action-recognition", "self-supervised", *filter(None, tags)))
    # JSON is YAML, and holds any name.
    return (
        "---\nlibrary_name: smae\npipeline_tag: feature-extraction\nlicense: other\n"
        f"license_name: see-licence-section\ntags: {json.dumps(list(known))}\n---\n\n"
    )


def _results(results: Sequence[Result], sha256: str) -> list[str]:
    if not results:
        return ["None yet: run `smae eval`."]
    lines = [
        f"One for each protocol and probe, chosen by this rule: {RULE}.",
        "",
        "| protocol | probe | what | selection | seeds | top-1 % | mean class % | checkpoint | store |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        checkpoint = f"step {result.first['checkpoint']['step']}"
        if result.first["checkpoint"]["sha256"] != sha256:
            checkpoint += ", **not these weights**"
        for row in result.rows:
            spread = f" ± {100 * row.std:.1f}" if row.std is not None else ""
            per_class = "" if row.mean_class is None else f"{100 * row.mean_class:.1f}"
            figures = (f"{100 * row.top1:.1f}{spread}", per_class, checkpoint, f"`{result.first['store'][:8]}`")
            cells = (result.protocol, row.mode, row.what, row.selection, row.seeds, *figures)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [f"- {result.name}: {words}" for result in results for words in (*result.notes, *result.warnings)]
    return lines
