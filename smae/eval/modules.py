"""Any encoder, any clips: probes of a module or function, features as a scikit-learn transformer.

What is not one of smae's encoders is called with ``x`` float32 [B, C, T, V, M], metres, the form that
ST-GCN, CTR-GCN and their successors take: C = 3 coordinates, T = ``augment.frames`` frames, V joints
of the store's layout, M = 2 bodies, zeros where a body is absent. It returns features [B, D].
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smae import interrupts
from smae.config import Section, as_settings, check_effect, merge
from smae.data.loader import Batch, ClipDataset
from smae.data.loader.loader import Loader
from smae.data.store import Store, open_store
from smae.errors import ConfigError, DataError
from smae.eval.export import LoadedEncoder, load_trained, read_weights
from smae.eval.features import FeatureExtractor, Pooled, extract, raw_coordinates
from smae.eval.probes import ENCODE_BATCH, ProbeContext, Scores
from smae.eval.probes.linear import knn_on, linear_on
from smae.eval.raw_clips import ClipsInMemory
from smae.eval.records import MOST_FREQUENT, RAW, Row, mean_class
from smae.eval.run_probes import rows_of
from smae.models.encoders import Encoder
from smae.skeleton import NTU25, Layout, layout_from_json
from smae.tables import Grid, Table, results
from smae.train.config import Pool, RunConfig, build_config
from smae.train.distributed import pick_device
from smae.train.run_folder import find_checkpoint, is_packaged

AnyEncoder = nn.Module | Callable[[Tensor], Tensor] | LoadedEncoder | Path | str
Settings = Mapping[str, Any] | Section | None


@dataclass(frozen=True)
class ProbeResult(Table):
    """Result of a probe of a module or function.

    Attributes:
        protocol: full name of the split.
        rows: the encoder, then its baselines.
        scores: predictions, logits and, of a linear probe, the trained head as ``model``.
    """

    protocol: str
    rows: list[Row]
    scores: Scores

    @property
    def top1(self) -> float:
        """Accuracy of the encoder in [0, 1]."""
        return self.scores.top1

    def tables(self) -> list[Grid]:
        return [results(self.rows, title=self.protocol)]


def linear_probe(
    encoder: AnyEncoder,
    store: Store | Path | str | None,
    protocol: str = "xsub",
    *,
    settings: Settings = None,
    baselines: bool = True,
    device: str = "auto",
) -> ProbeResult:
    """Evaluate any encoder by a linear classifier on its frozen features, as ``smae eval`` does.

    Same split, augmentation, recipe and random numbers: an encoder of smae gets the figure of
    ``smae eval --probe linear``. A module is moved to the device; while it is probed it is in
    evaluation mode, without gradients.

    Args:
        encoder: a function or module from ``x`` float32 [B, C, T, V, M] to features [B, D], C = 3,
            M = 2, absent bodies zero; an ``Encoder`` of smae; or a run, one of its checkpoints, or
            a folder of ``smae export-encoder``.
        store: an open one, a path or URL; None: the one in the current folder.
        protocol: the split: trained on its train part, scored once on its test part.
        settings: ``augment`` (which clips the encoder is given: frames, crop, stream, ...),
            ``linear`` and ``seed``, nested or dotted, as ``smae pretrain`` takes them
            (``{"augment.frames": 64, "linear.epochs": 50}``), or a run's settings as an object.
        baselines: a linear classifier on raw coordinates beside it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        ConfigError: wrong settings, or features of another shape or kind.
        DataError: no usable store, split, run or folder, or an encoder of another joint layout.
    """
    return _probe("linear", encoder, store, protocol, settings, baselines, device)


def knn_probe(
    encoder: AnyEncoder,
    store: Store | Path | str | None,
    protocol: str = "xsub",
    *,
    settings: Settings = None,
    baselines: bool = True,
    device: str = "auto",
) -> ProbeResult:
    """Evaluate any encoder by the nearest neighbours of its features; see ``linear_probe``.

    ``knn.k`` among the settings is the number of neighbours, 1 by default. Nothing is trained.
    """
    return _probe("knn", encoder, store, protocol, settings, baselines, device)


@interrupts.deferred("run it again")
def _probe(
    mode: str,
    encoder: AnyEncoder,
    store: Store | Path | str | None,
    protocol: str,
    settings: Settings,
    baselines: bool,
    device: str,
) -> ProbeResult:
    target, opened = pick_device(device), open_store(store)
    name, encoder = _name(encoder), _loaded(encoder)
    config = _config(encoder, settings, mode)
    extractor = _extractor(encoder, getattr(config, mode).pool, layout=opened.layout)
    split = opened.split(protocol)
    context = ProbeContext(opened, split, config, target)
    measure = {"linear": linear_on, "knn": knn_on}[mode]
    torch.manual_seed(config.seed)
    with _evaluating(extractor, target):
        found = [(name, measure(extractor, context))]
    if baselines:
        if mode == "knn":
            found.append((RAW, knn_on(raw_coordinates, context)))
        found.append((RAW if mode == "linear" else f"{RAW}, linear", linear_on(raw_coordinates, context)))
    rows, scores = rows_of(mode, found, context), found[0][1]
    usual = np.bincount(np.asarray(opened.clips.label)[split.train]).argmax()
    right = scores.label == usual
    rows.append(Row(MOST_FREQUENT, float(right.mean()), mode=mode, mean_class=mean_class(right, scores.label)))
    return ProbeResult(split.name, rows, scores)


def _config(encoder: Any, settings: Settings, mode: str) -> RunConfig:
    """Return settings; those of an exported encoder's clips are its own unless others are given."""
    own = {"augment": encoder.config.augment.model_dump()} if isinstance(encoder, LoadedEncoder) else {}
    given = as_settings(settings)
    if isinstance(settings, Mapping):
        check_effect(given, [mode])
    return build_config(merge(own, given))


@dataclass(frozen=True)
class ModuleFeatures:
    """Feature extractor: what a module or function returns for whole clips, checked.

    Attributes:
        call: from float32 [B, C, T, V, M] to [B, D].
    """

    call: Callable[[Tensor], Tensor]

    def __call__(self, batch: Batch) -> Tensor:
        """Return features float32 [B, D]; a ``ConfigError`` unless finite and of this shape."""
        features: Any = self.call(whole_clips(batch))
        found = f"{type(features).__name__} {list(getattr(features, 'shape', []))}"
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != batch.clips:
            raise ConfigError(
                f"the encoder was given x [B, C, T, V, M] of {batch.clips} clips, and features [{batch.clips}, "
                f"D] are expected: found {found}; pool what it returns over joints, time and bodies"
            )
        if not features.is_floating_point() or not bool(features.isfinite().all()):
            raise ConfigError(f"the encoder's features are not finite numbers ({features.dtype}): check its weights")
        return features.float()


def whole_clips(batch: Batch) -> Tensor:
    """Return the clips of a batch of one view, float32 [B, C, T, V, 2]; absent bodies 0."""
    both = batch.x.new_zeros(batch.clips, 2, *batch.x.shape[1:])
    both[batch.clip, batch.body] = batch.x
    return both.permute(0, 4, 2, 3, 1).contiguous()


def _extractor(encoder: Any, pool: Pool, *, layout: Layout) -> FeatureExtractor:
    if isinstance(encoder, LoadedEncoder):
        if encoder.layout.name != layout.name:
            raise DataError(
                f"the encoder was trained on layout {encoder.layout.name}, the clips have {layout.name}: "
                "give clips of its layout"
            )
        encoder = encoder.encoder
    if isinstance(encoder, Encoder):
        return Pooled(encoder, pool)
    if not callable(encoder):
        raise ConfigError(f"expected a module or function as encoder, found {type(encoder).__name__}")
    return ModuleFeatures(encoder)


def _name(encoder: Any) -> str:
    if isinstance(encoder, Path | str):
        return str(encoder)
    model = encoder.encoder if isinstance(encoder, LoadedEncoder) else encoder
    return str(getattr(model, "__name__", type(model).__name__))


@contextmanager
def _evaluating(extractor: FeatureExtractor, device: torch.device) -> Iterator[None]:
    """Put a module on the device and in evaluation mode; afterwards its parts train again."""
    module: Any = getattr(extractor, "encoder", getattr(extractor, "call", None))
    if not isinstance(module, nn.Module):
        yield
        return
    training = {part: part.training for part in module.modules()}
    module.to(device).eval()
    try:
        yield
    finally:
        for part, before in training.items():
            part.training = before


class Embedder:
    """Features of clips by a frozen encoder, with scikit-learn's ``fit`` and ``transform``.

    ``Pipeline([("features", smae.Embedder("encoder")), ("svm", LinearSVC())]).fit(clips, labels)``.
    Nothing is learned in ``fit``. What it is given to transform is a store, ``store.torch_dataset``,
    or a sequence of clips: those of a store, or arrays [M, T, V, 3] in metres.

    Args:
        encoder: a folder of ``smae export-encoder``, a run or one of its checkpoints; or an encoder
            as ``linear_probe`` takes it.
        pool: how the tokens of an encoder of smae become one vector; see ``Linear.pool``.
        settings: ``augment`` settings of a module or function, such as ``{"augment.frames": 64}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
    """

    def __init__(self, encoder: Any, *, pool: Pool = "mean", settings: Settings = None, device: str = "auto") -> None:
        # As scikit-learn's estimators do: what is given is kept as it is, and read when it is used.
        self.encoder, self.pool, self.settings, self.device = encoder, pool, settings, device

    def fit(self, X: Any = None, y: Any = None) -> Embedder:
        """Return the transformer itself."""
        return self

    @torch.no_grad()
    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return features float32 [n, D], in the order of the clips.

        Raises:
            DataError: no usable encoder, or clips of another layout.
            ConfigError: no clips, or something else than clips.
        """
        encoder, target = _loaded(self.encoder), pick_device(self.device)
        own = encoder.layout if isinstance(encoder, LoadedEncoder) else NTU25
        clips, index = _readable(X, own)
        config = _config(encoder, self.settings, "knn")
        extractor = _extractor(encoder, self.pool, layout=clips.layout)
        loader = Loader(
            clips, index, augment=config.augment, batch=ENCODE_BATCH, seed=0, train=False, device=target, workers=0
        )
        with _evaluating(extractor, target):
            features = extract(extractor, loader, name="embed")
        # A loader gives clips in the order of the store.
        order = np.empty(len(index), np.int64)
        order[np.argsort(index, kind="stable")] = np.arange(len(index))
        return features.x.numpy()[order]

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        return self.transform(X)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments it was made with, by name."""
        return {name: getattr(self, name) for name in ("encoder", "pool", "settings", "device")}

    def set_params(self, **params: Any) -> Embedder:
        """Change arguments by name; return itself. A ``ConfigError`` for another name."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ConfigError(f"Embedder has no '{name}': expected one of {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = importlib.import_module("sklearn.utils")
        return tags.Tags(
            estimator_type=None,
            target_tags=tags.TargetTags(required=False),
            transformer_tags=tags.TransformerTags(),
            requires_fit=False,
        )


def _loaded(encoder: Any) -> Any:
    """Return an encoder, loaded if it is the path of a run, checkpoint or exported encoder."""
    if not isinstance(encoder, Path | str):
        return encoder
    folder = Path(encoder)
    if is_packaged(folder) or (folder / "model.safetensors").is_file():
        return read_weights(folder)
    run, step = find_checkpoint(folder)
    about = run.describe()
    layout = layout_from_json(about["store"]["layout"], about["store"].get("skeleton"))
    config, objective, _ = load_trained(run, layout, step=step)
    own: Any = SimpleNamespace(augment=config.augment)
    return LoadedEncoder(objective.encoder, objective.encoder, layout, own)


def _readable(clips: Any, layout: Layout) -> tuple[Any, NDArray[np.int64]]:
    """Return clips as a ``Loader`` reads them, and the numbers of those that are wanted."""
    if isinstance(clips, ClipDataset):
        return clips.store, clips.index
    if hasattr(clips, "rows") and hasattr(clips, "clips"):
        return clips, np.arange(len(clips))
    if not isinstance(clips, Sequence | np.ndarray) or isinstance(clips, str) or not len(clips):
        raise ConfigError(f"expected a store, a dataset of one, or clips; found {type(clips).__name__}")
    joints = [np.asarray(getattr(clip, "joints", clip), np.float32) for clip in clips]
    wrong = [list(one.shape) for one in joints if one.ndim != 4 or one.shape[-2:] != (len(layout), 3) or not one.size]
    if wrong or any(len(one) > 2 for one in joints):
        found = wrong[0] if wrong else "more than two bodies"
        raise ConfigError(f"clips must be [M, T, {len(layout)}, 3], M = 1 or 2, metres; found {found}")
    exact = any(np.isnan(one).any() for one in joints)
    # Plain arrays say nothing of joints that are missing.
    states = [getattr(clip, "state", np.zeros(one.shape[:3])) for clip, one in zip(clips, joints, strict=True)]
    made: Any = [SimpleNamespace(joints=one, state=state) for one, state in zip(joints, states, strict=True)]
    return ClipsInMemory(made, layout=layout, mode="exact" if exact else "reference"), np.arange(len(joints))
