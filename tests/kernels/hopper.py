"""Compile a Triton kernel for Hopper on a machine without a GPU, and read what it needs."""

import re
import subprocess
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


def compile_for_hopper(kernel: Any, types: dict[str, str], constants: dict[str, Any], folder: Path, num_warps: int = 4) -> Resources:
    """Compile for compute capability 9.0.

    Args:
        kernel: a ``triton.jit`` function.
        types: of its tensor arguments, like "*fp32"; arguments named nowhere are 32-bit integers.
        constants: its ``constexpr`` arguments, and arguments that are None.
        folder: for the assembler's files.
        num_warps: of a program.
    """
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    assembly = folder / "kernel.ptx"
    assembly.write_text(compiled.asm["ptx"])
    command = [triton.knobs.nvidia.ptxas.path, "-v", "-arch=sm_90a", str(assembly), "-o", str(folder / "kernel.cubin")]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = sum(int(x) for x in re.findall(r"(\d+) bytes spill", report))
    return Resources(int(re.findall(r"Used (\d+) registers", report)[-1]), spilled, compiled.metadata.shared)
