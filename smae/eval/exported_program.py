"""Encoders and classifiers as one graph, in ONNX or as torch's ExportedProgram.

The graph does what the loader does to a clip that is not augmented (centring, crop, resizing, view
normalisation, stream), so what runs it needs neither smae nor torch, only cleaned clips in metres.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smae import interrupts
from smae.atomic_io import atomic_file, check_output
from smae.data.loader import resample_and_map, to_stream
from smae.data.loader.augment import origin_joints, trunk_of
from smae.data.loader.kernels import CENTRED
from smae.errors import ConfigError, DataError, EnvironmentFault
from smae.eval.export import LoadedEncoder, export_encoder, read_weights
from smae.models.encoders import encode_measured
from smae.train.run_folder import is_packaged

logger = logging.getLogger(__name__)

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Formats, and how their files' names end."""
PACKAGES: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch-export": ()}
KEY = "smae"
"""Metadata entry of a file: JSON that says what it takes and gives."""
TOLERANCE = 1e-5
"""Largest difference from the PyTorch module, relative to the largest number where that is above 1."""


class ClipModel(nn.Module):
    """An encoder or classifier of whole clips, preprocessing included, of tensor operations alone.

    Args:
        loaded: the encoder or classifier, in evaluation mode.
    """

    def __init__(self, loaded: LoadedEncoder) -> None:
        super().__init__()
        self.encoder, self.head = loaded.encoder, getattr(loaded.model, "head", None)
        self.vectors = getattr(loaded.model, "vectors", None)
        self.augment, self.centre = loaded.config.augment, loaded.layout.centre
        self.exact = loaded.config.prepared.mode == "exact"
        self.trunk = trunk_of(loaded.layout, align=self.augment.align)
        joints = torch.arange(len(loaded.layout))
        self.register_buffer("joints", joints)
        self.register_buffer("origin", torch.from_numpy(origin_joints(loaded.layout, stream=self.augment.stream)))

    def forward(self, joints: Tensor) -> tuple[Tensor, ...]:
        """Return logits [B, K]; of an encoder features [B, D] and tokens [B, M, L, D].

        Args:
            joints: float32 [B, M, F, V, 3], metres; zeros where a body is absent, and after the end of
                a clip that is shorter than others. No NaN.
        """
        clips, bodies = joints.shape[:2]
        items, present = self.items(joints)
        weight = present.to(items.dtype)[..., None]
        count = weight.sum(1).clamp(min=1)

        def mean(vectors: Tensor) -> Tensor:
            return (vectors.view(clips, bodies, -1) * weight).sum(1) / count

        if self.head is None or self.vectors is None:
            tokens = encode_measured(self.encoder, items, None, groups=self.encoder.feature_groups).float()
            return mean(tokens.mean(1)), tokens.view(clips, bodies, *tokens.shape[1:])
        return (self.head(mean(self.vectors(items))),)

    def items(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is encoded, float32 [B * M, T, V, 3], and which bodies show, bool [B, M]."""
        clips, bodies, frames = joints.shape[:3]
        shown = (joints != 0).flatten(3).any(3)  # [B, M, F]
        joints = torch.where(shown[..., None, None], joints - self.shift(joints, shown), joints)
        begin, length = self.window(shown.any(1))

        def each(of_clips: Tensor) -> Tensor:
            shape = (clips, bodies, *of_clips.shape[1:])
            return of_clips[:, None].expand(shape).flatten(0, 1)

        item = torch.arange(clips * bodies, device=joints.device)
        x = resample_and_map(
            joints.flatten(0, 2),
            item * frames + each(begin),
            each(length),
            frames=self.augment.frames,
            transform=each(self.axes(joints, shown)),
            joint=self.joints.expand(clips * bodies, -1),  # type: ignore[operator]
        )
        time = torch.arange(frames, device=joints.device)
        inside = (time >= begin[:, None]) & (time < (begin + length)[:, None])
        x = to_stream(x, stream=self.augment.stream, origin=self.origin)  # type: ignore[arg-type]
        return x, (shown & inside[:, None]).any(2)

    def shift(self, joints: Tensor, shown: Tensor) -> Tensor:
        """Return [B, 1, 1, 1, 3], what centres clips that are not: as ``centre_clips`` does."""
        centre, seen = joints[:, 0, :, self.centre], shown[:, 0]
        near = (seen & (centre.square().sum(2) < CENTRED * CENTRED)).any(1)
        first = _first(seen)[:, None, None].expand(-1, 1, 3)
        origin = centre.gather(1, first)[:, 0]
        moved = (seen.any(1) & ~near)[:, None]
        return torch.where(moved, origin, torch.zeros_like(origin))[:, None, None, None]

    def window(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Return first frame and length, int64 [B], of the centre crop; bodies show in frames [B, F]."""
        count = shown.long().sum(1)
        begin = torch.zeros_like(count)
        if self.exact:
            begin = _first(shown)
            count = (shown * (torch.arange(shown.shape[1], device=shown.device) + 1)).amax(1) - begin
        count = count.clamp(min=1)
        cut = ((1 - self.augment.test_crop) * count.double() / 2).floor().long()
        cut = torch.minimum(cut, (count - 1) // 2)
        return begin + cut, count - 2 * cut

    def axes(self, joints: Tensor, shown: Tensor) -> Tensor:
        """Return the view normalisation, float32 [B, 3, 3]: as ``facing_axes`` does."""
        same = torch.eye(3, device=joints.device).expand(joints.shape[0], 3, 3)
        if self.trunk is None:
            return same
        rows, seen = joints.flatten(1, 2), shown.flatten(1)
        first = _first(seen)[:, None, None, None].expand(-1, 1, *rows.shape[2:])
        row = rows.gather(1, first)[:, 0].double()  # [B, V, 3]
        left, right = self.trunk.across.T.tolist()
        x = (row[:, right] - row[:, left]).sum(1)
        y = torch.tensor([[0.0, 1.0, 0.0]], dtype=row.dtype, device=row.device).expand(row.shape[0], 3)
        if self.trunk.upright:
            low, high = self.trunk.spine.tolist()
            y = row[:, high] - row[:, low]
        height = y.square().sum(1, keepdim=True).sqrt()
        y = y / height.clamp(min=1e-6)
        x = x - (x * y).sum(1, keepdim=True) * y
        width = x.square().sum(1, keepdim=True).sqrt()
        x = x / width.clamp(min=1e-6)
        z = torch.stack([x[:, a] * y[:, b] - x[:, b] * y[:, a] for a, b in ((1, 2), (2, 0), (0, 1))], 1)
        usable = (seen.any(1, keepdim=True) & (height >= 1e-6) & (width >= 1e-6))[..., None]
        return torch.where(usable, torch.stack([x, y, z], 1).float(), same)


def _first(seen: Tensor) -> Tensor:
    """Return int64 [B], the first true place of [B, F], 0 if there is none."""
    return seen.int().argmax(1)


@interrupts.deferred("run it again")
def export_program(run: Path | str | None, out: Path | str, *, format: str, overwrite: bool = False) -> Path:
    """Write an encoder or classifier as a graph that needs no smae to run; return the file.

    Args:
        run: a run or one of its checkpoints; None for the newest run; or a folder of weights: an
            exported encoder, or a head, which gives a classifier.
        out: the file.
        format: ``onnx`` (the file ends in ``.onnx``) or ``torch-export`` (``.pt2``).
        overwrite: replace an earlier file of this kind; anything else is never replaced.

    Raises:
        ConfigError: unknown format, another ending, or ``out`` must not be replaced.
        EnvironmentFault: a package that the format needs is missing.
        DataError: no run or usable checkpoint, or an encoder that the format cannot hold.
    """
    if format not in SUFFIXES:
        raise ConfigError(f"--format {format}: expected folder, {' or '.join(SUFFIXES)}")
    with tempfile.TemporaryDirectory(prefix="smae-") as temporary:
        folder = Path(run or "")
        known = is_packaged(folder) or (folder / "model.safetensors").is_file()
        if run is None or not known:
            folder = export_encoder(run, Path(temporary) / "encoder")
        return write_program(read_weights(folder), Path(out), format=format, overwrite=overwrite)


def write_program(loaded: LoadedEncoder, to: Path, *, format: str, overwrite: bool = False) -> Path:
    """Write an encoder or classifier as a graph, checked against its module; return the file.

    Numbers of clips, bodies and frames are free. The file's metadata says what it takes.

    Args:
        loaded: from ``read_weights``.
        to: the file.
        format: ``onnx``, or ``torch-export`` for ``torch.export.load``.
        overwrite: replace an earlier file of this kind.

    Raises:
        ConfigError: another ending, or ``to`` must not be replaced.
        EnvironmentFault: a package is missing.
        DataError: the encoder has operations that the format has not, or its results differ; or it
            was trained on recordings that all lack a joint, which a graph cannot leave out.
    """
    if lacking := loaded.config.layout.missing:
        raise DataError(
            f"all recordings of its training lack {', '.join(lacking[:5])}, and a graph cannot leave "
            "joints out: train it with --layout of joints that they have, such as common15"
        )
    if to.suffix != SUFFIXES[format]:
        raise ConfigError(f"{to}: --format {format} writes one file: give it a name that ends in {SUFFIXES[format]}")
    for name in PACKAGES[format]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise EnvironmentFault(f"{error}: install it with pip install 'smae[onnx]'") from None
    kind = f"an {format} file of smae"
    check_output(to, kind=kind, is_kind=lambda path: _is_program(path, format), overwrite=overwrite)
    model, about = ClipModel(loaded).eval(), describe(loaded)
    with _refused(str(loaded.config.encoder.get("name")), format):
        data, run = (_onnx if format == "onnx" else _torch_export)(model, about)
        difference = _compare(model, run, loaded)
    if difference > TOLERANCE:
        raise DataError(
            f"{to}: the graph's results differ from the encoder's by {difference:.1e}, at most {TOLERANCE:.0e} is "
            "expected: nothing was written"
        )
    with atomic_file(to, size=len(data)) as partial:
        partial.write_bytes(data)
    logger.info(f"{to}: largest difference from the PyTorch module {difference:.1e}")
    return to


def describe(loaded: LoadedEncoder) -> dict[str, Any]:
    """Return what a graph takes and gives, as JSON values."""
    config, layout, head = loaded.config, loaded.layout, loaded.config.head
    outputs = {"features": "float32 [clips, D], mean over tokens and bodies", "tokens": "float32 [clips, bodies, L, D]"}
    about: dict[str, Any] = {}
    if head is not None:
        outputs = {"logits": "float32 [clips, classes], before softmax"}
        about = {"classes": list(head.classes), "names": list(head.names)}
    return {
        "input": {"joints": f"float32 [clips, bodies, frames, {len(layout)}, 3]"},
        "unit": "metres",
        "absent": "zeros where a body is absent, and after the end of a shorter clip; no NaN",
        "missing": "no joint may be missing: each is taken as measured",
        "cleaned": f"{config.prepared.mode} mode" + f", {config.prepared.frames} frames" * bool(config.prepared.frames),
        "layout": layout.name,
        "joints": list(layout.joints),
        "outputs": outputs,
        **about,
        "encoder": config.encoder,
        "augment": config.augment.model_dump(mode="json"),
        "sha256": config.sha256,
    }


Run = Callable[[Tensor], list[Tensor]]


def _program(model: ClipModel) -> Any:
    dim = torch.export.Dim
    shapes = {0: dim("clips", min=1), 1: dim("bodies", min=1, max=8), 2: dim("frames", min=1)}
    # Sizes that occur nowhere else: equal ones would be taken for the same.
    example = torch.zeros(3, 2, 37, model.encoder.grid.joints, 3)
    return torch.export.export(model, (example,), dynamic_shapes=(shapes,))


def _torch_export(model: ClipModel, about: dict[str, Any]) -> tuple[bytes, Run]:
    program, buffer = _program(model), io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{KEY}.json": json.dumps(about)})
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda joints: list(module(joints))


def _onnx(model: ClipModel, about: dict[str, Any]) -> tuple[bytes, Run]:
    onnx, onnxruntime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    names, buffer = list(about["outputs"]), io.BytesIO()
    made = torch.onnx.export(
        _program(model), input_names=["joints"], output_names=names, dynamo=True, verbose=False, optimize=True
    )
    assert made is not None, "dynamo gives a program"
    proto = made.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(about)})
    buffer.write(proto.SerializeToString())
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    return buffer.getvalue(), lambda joints: [
        torch.from_numpy(array) for array in session.run(names, {"joints": joints.numpy()})
    ]


@torch.no_grad()
def _compare(model: ClipModel, run: Run, loaded: LoadedEncoder) -> float:
    """Return the largest difference of a graph from its module, on walks of several lengths."""
    largest, noise = 0.0, torch.Generator().manual_seed(0)
    for clips, bodies, frames in ((1, 1, 9), (4, 2, 70), (2, 2, 151)):
        joints = torch.randn(clips, bodies, frames, len(loaded.layout), 3, generator=noise).cumsum(2) * 0.02
        joints[-1, -1, frames // 2 :] = 0
        for found, expected in zip(run(joints), model(joints), strict=True):
            scale = max(1.0, float(expected.abs().max()))
            largest = max(largest, float((found - expected).abs().max()) / scale)
    return largest


@contextmanager
def _refused(name: str, format: str) -> Iterator[None]:
    """Word what an exporter raises in a line, and keep it from writing to the terminal."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise DataError(
            f"the encoder '{name}' cannot be exported as {format}: {type(error).__name__}: {first[:300]}; "
            "--format folder always works"
        ) from error
    finally:
        exporter.setLevel(before)


def _is_program(path: Path, format: str) -> bool:
    if not path.is_file():
        return False
    if format == "torch-export":
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"{KEY}.json") for name in archive.namelist())
    onnx = importlib.import_module("onnx")
    try:
        found = onnx.load(path, load_external_data=False)
    except Exception:
        # Any file may be there; protobuf's errors have no common class.
        return False
    return any(entry.key == KEY for entry in found.metadata_props)
