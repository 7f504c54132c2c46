"""The interface of huggingface_hub: folders are read and written as ``export_encoder`` does; cards are cards there."""

from __future__ import annotations

import pytest
import torch

import smae
from smae.errors import ConfigError, DataError
from smae.eval.export import load_encoder
from smae.eval.model_card import front_matter
from smae.skeleton import NTU25
from smae.testing.models import bodies
from tests.eval.test_exported_program import folder_of
from tests.eval.test_import_weights import checkpoint, mamp_tensors

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'smae[hub]'")
X = bodies(NTU25, items=2, frames=12)


@torch.no_grad()
def test_a_folder_is_loaded_saved_and_loaded_again(tmp_path):
    from smae.eval.hub import HubEncoder

    folder = folder_of(tmp_path / "a")
    (folder / "README.md").write_text(f"{front_matter('mae')}# card\n")
    model = HubEncoder.from_pretrained(folder)
    assert not model.training
    assert torch.equal(model(X), load_encoder(folder)(X))
    to = tmp_path / "b"
    to.mkdir()
    (to / "notes.txt").write_text("mine")
    model.save_pretrained(to)
    names = ["README.md", "config.json", "model.safetensors", "notes.txt"]
    assert sorted(path.name for path in to.iterdir()) == names
    for name in names[:3]:
        assert (to / name).read_bytes() == (folder / name).read_bytes()
    (to / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="contents differ from the SHA-256"):
        HubEncoder.from_pretrained(to)


def test_an_imported_decoder_is_kept(tmp_path):
    from smae.eval.hub import HubEncoder

    smae.import_weights(checkpoint(tmp_path / "a.pth", mamp_tensors()), tmp_path / "a", format="mamp")
    HubEncoder.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()


def test_a_head_is_no_encoder(tmp_path):
    from smae.eval.hub import HubEncoder

    with pytest.raises(ConfigError, match="an encoder is expected"):
        HubEncoder.from_pretrained(folder_of(tmp_path / "a", head="mean"))


def test_the_front_matter_of_a_card_is_read_by_the_hub():
    data = hub.ModelCard(f"{front_matter('simclr', 'vit', 'odd: [name')}# card\n").data.to_dict()
    assert [data[key] for key in ("library_name", "pipeline_tag", "license")] == ["smae", "feature-extraction", "other"]
    assert data["tags"] == ["skeleton", "action-recognition", "self-supervised", "simclr", "vit", "odd: [name"]
