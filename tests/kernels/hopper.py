"""Compile a Triton kernel for Hopper on a machine without a GPU, and read what it needs."""

import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


class Resources(NamedTuple):
    """Of one program: registers a thread, spilled bytes a thread, bytes of shared memory."""

    registers: int
    spilled: int
    shared: int


def compile_for_hopper(
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    folder: Path,
    num_warps: int = 4,
    num_stages: int = 3,
    odd: Collection[str] | None = None,
) -> Resources:
    """Compile for compute capability 9.0.

    Args:
        kernel: a ``triton.jit`` function.
        types: of its tensor arguments, like "*fp32"; arguments named nowhere are 32-bit integers.
        constants: its ``constexpr`` arguments, and arguments that are None.
        folder: for the assembler's files.
        num_warps: of a program.
        num_stages: of its pipelined loops.
        odd: integer arguments that are no multiples of 16, where the others (strides, mostly) are; None for all.
    """
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    even = {name for name, kind in signature.items() if kind.startswith("*") or (kind == "i32" and odd is not None and name not in odd)}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name in even}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps, "num_stages": num_stages})
    assembly = folder / "kernel.ptx"
    assembly.write_text(compiled.asm["ptx"])
    command = [triton.knobs.nvidia.ptxas.path, "-v", "-arch=sm_90a", str(assembly), "-o", str(folder / "kernel.cubin")]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = sum(int(x) for x in re.findall(r"(\d+) bytes spill", report))
    return Resources(int(re.findall(r"Used (\d+) registers", report)[-1]), spilled, compiled.metadata.shared)
