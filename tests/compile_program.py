"""What tests/test_jit.py runs: compile all Triton kernels for a GPU that need not be here."""

from __future__ import annotations

from itertools import product
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from smae.data.loader import batch_triton as items_triton
from smae.models import masking_kernels as masking

LISTS = {
    **dict.fromkeys(("item_ptr", "lists_ptr"), "*i64"),
    "seed": "i64",
    "tokens_ptr": "*fp32",
    "visible_ptr": "*fp32",
}
ITEMS = {
    **dict.fromkeys(("first_ptr", "length_ptr", "joint_ptr", "origin_ptr"), "*i64"),
    **dict.fromkeys(("item_ptr", "parent_ptr"), "*i64"),
    **dict.fromkeys(("rows_ptr", "map_ptr", "out_ptr", "delta_ptr", "offset_ptr"), "*fp32"),
    **dict.fromkeys(("blank_joint_ptr", "blank_frame_ptr"), "*u8"),
    "seed": "i64",
    "sigma": "fp32",
}
SHAPES = {"BLOCK": 1024, "VALUES": 12}
TABLE = {"VALUES": 12, "TIMES": 32, "JOINTS": 32}


def compile_for_hopper(kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> None:
    """Compile down to machine code; every argument that is not named is a 32-bit whole number."""
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(made.asm["cubin"]))


if __name__ == "__main__":
    for motion, tubes in ((False, False), (False, True), (True, False)):
        constants = {**SHAPES, "MOTION": motion, "TUBES": tubes}
        compile_for_hopper(masking._by_score, {**LISTS, "tau_bits": "i64"}, constants)
    compile_for_hopper(masking._spatial_temporal, LISTS, TABLE)
    compile_for_hopper(masking._body_part, {**LISTS, "part_ptr": "*i32"}, TABLE)
    for noise, edit, difference, motion in product((False, True), repeat=4):
        flags = {"NOISE": noise, "EDIT": edit, "DIFFERENCE": difference, "MOTION": motion}
        style = {**flags, "DEPTH": 6 * edit, "TIMES": 8, "WIDTH": 128}
        compile_for_hopper(items_triton._items, ITEMS, style)
