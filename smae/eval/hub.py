"""Exported folders by huggingface_hub's ``from_pretrained`` and ``save_pretrained``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from smae.errors import ConfigError, EnvironmentFault
from smae.eval.export import LoadedEncoder, read_weights, write_weights

try:
    from huggingface_hub import PyTorchModelHubMixin, snapshot_download
except ImportError as error:
    raise EnvironmentFault(f"{error}: install it with pip install 'smae[hub]'") from None


class HubEncoder(nn.Module, PyTorchModelHubMixin, library_name="smae"):
    """An exported encoder, as ``huggingface_hub`` loads, saves and pushes models.

    ``HubEncoder.from_pretrained(FOLDER)`` reads a folder that ``smae export-encoder`` or
    ``smae import-weights`` wrote, checked like ``load_encoder``'s; the name of a repository on the Hub
    is downloaded first. ``save_pretrained`` writes such a folder again, its model card included.

    Args:
        loaded: the encoder.
        files: its model card, and an imported decoder, by name.
    """

    def __init__(self, loaded: LoadedEncoder, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        if loaded.config.head is not None:
            raise ConfigError("a classifier was given, an encoder is expected: name a folder of smae export-encoder")
        self.encoder, self.loaded, self.files = loaded.encoder, loaded, files or {}

    def forward(self, joints: Tensor) -> Tensor:
        """Return features [N, tokens, D] of joints float32 [N, frames, V, 3], metres, an item a body."""
        return self.encoder(joints)  # type: ignore[no-any-return]

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> HubEncoder:
        folder, more = Path(model_id), ["README.md", "decoder.safetensors"]
        if not folder.is_dir():
            keys = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            known = {key: options[key] for key in keys if key in options}
            files = ["config.json", "model.safetensors", *more]
            folder = Path(snapshot_download(model_id, allow_patterns=files, **known))
        kept = {name: (folder / name).read_bytes() for name in more if (folder / name).is_file()}
        return cls(read_weights(folder), kept).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        config = self.loaded.config
        with tempfile.TemporaryDirectory(prefix="smae-") as temporary:
            folder = write_weights(
                Path(temporary) / "encoder",
                self.encoder,
                encoder=config.encoder,
                augment=config.augment,
                layout=self.loaded.layout,
                prepared=config.prepared,
                missing=config.layout.missing,
                origin=config.origin,
                files=self.files,
            )
            # File by file: the folder may hold files of others, and write_weights replaces folders.
            for file in folder.iterdir():
                shutil.copyfile(file, save_directory / file.name)
