"""Pictures of moving skeletons, from plain arrays: a page, a GIF, a strip of frames, a Rerun recording."""

from smae.viz.scene import Panel, Scene
from smae.viz.view import FORMATS, write_scene

__all__ = ["FORMATS", "Panel", "Scene", "write_scene"]
