"""Pictures of moving skeletons, from plain arrays: a page, a GIF, a strip of frames, a Rerun recording."""

from smae.viz.scene import Panel, Scene
from smae.viz.write import FORMATS, check_target, page_name, write_scene

__all__ = ["FORMATS", "Panel", "Scene", "check_target", "page_name", "write_scene"]
