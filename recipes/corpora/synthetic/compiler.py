"""The C compiler, for what stands between Python and an engine: compiled when the engines are unpacked, or when first used."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from .engine import SynthesisError

_SOURCES = Path(__file__).parent / "native"


def run(program: str, *arguments: str) -> None:
    """Run a program to its end.

    Raises:
        SynthesisError: it is not installed, or fails; the message holds what it said.
    """
    try:
        subprocess.run([program, *arguments], check=True, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise SynthesisError(f"{program} is needed and is not installed") from None
    except subprocess.CalledProcessError as error:
        raise SynthesisError(f"{program} failed: {' '.join(error.stderr.split())}") from None


def compile_library(source: Path, library: Path, *options: str) -> None:
    """Compile one C file to a shared library.

    Raises:
        SynthesisError: there is no compiler, or it fails.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    run("cc", "-shared", "-fPIC", "-O2", *options, f"-Wl,-soname,{library.name}", "-o", str(library), str(source))


def native_library(name: str, root: Path, scratch: Path) -> Path:
    """The library of ``native/<name>.c``: the one that `build_native` laid under ``root``, or one compiled into ``scratch``.

    Raises:
        SynthesisError: it has to be compiled, and cannot be.
    """
    for folder in (root / "stub", scratch):
        if (library := folder / _file_name(name)).exists():
            return library
    return build_native(name, scratch)


def build_native(name: str, folder: Path) -> Path:
    """Compile ``native/<name>.c`` into a folder.

    Raises:
        SynthesisError: there is no compiler, or it fails.
    """
    library = folder / _file_name(name)
    compile_library(_SOURCES / f"{name}.c", library)
    return library


def _file_name(name: str) -> str:
    """Of the library; it tells one of other sources apart, such as those of another version."""
    return f"libriverrun-{name}-{hashlib.sha256((_SOURCES / f'{name}.c').read_bytes()).hexdigest()[:12]}.so"
