"""Drawings of moving skeletons: pages, GIFs, strips of frames, Rerun recordings, reports."""

from smae.viz.scene import Panel, Scene
from smae.viz.view import FORMATS, write_scene

__all__ = ["FORMATS", "Panel", "Scene", "write_scene"]
