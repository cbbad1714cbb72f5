"""Unpack the synthesisers' Debian packages into a folder, installing nothing.

``python -m riverrun.recipes.corpora.synthetic.unpack DEBS ROOT`` makes ROOT what the corpus command takes as ``--root``.
The packages come from ``apt-get download`` of the names in `packages.PACKAGES`. dpkg-deb unpacks them; a C compiler (``cc``) makes empty
stand-ins for the sound servers' libraries, which the engines are linked to and never use here, and what `compiler.build_native` makes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from .compiler import build_native, compile_library, run
from .engine import SynthesisError
from .packages import PACKAGES

_NATIVE = {"pico", "rhvoice"}
_STAND_INS = {
    "pcaudio": (
        "audio_object_close audio_object_destroy audio_object_drain audio_object_flush audio_object_open audio_object_strerror "
        "audio_object_write create_audio_device_object",
        "",
    ),
    "pulse-simple": (
        "pa_simple_new pa_simple_free pa_simple_write pa_simple_drain pa_simple_flush pa_simple_read pa_simple_get_latency pa_strerror",
        "PULSE_0 { global: pa_*; local: *; };",
    ),
}


def unpack(debs: Path, root: Path, engines: Collection[str] = tuple(PACKAGES)) -> None:
    """Make ``root`` fit to be the ``--root`` of the corpus command.

    Raises:
        SynthesisError: an engine is not known, a package is missing, or dpkg-deb or the compiler is missing or fails.
    """
    if unknown := sorted(set(engines) - set(PACKAGES)):
        raise SynthesisError(f"no engine {' '.join(unknown)}; there are {' '.join(PACKAGES)}")
    archives = {package: sorted(debs.glob(f"{package}_*.deb")) for engine in engines for package in PACKAGES[engine]}
    missing = [package for package, found in archives.items() if not found]
    if missing:
        raise SynthesisError(f"{debs} lacks the packages {' '.join(missing)}; get them with apt-get download, or name other --engines")
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    for found in archives.values():
        run("dpkg-deb", "-x", str(found[-1]), str(root))
    if "festival" in engines:
        _move_festival(root)
    for name, (functions, versions) in _STAND_INS.items():
        _stand_in(root / f"stub/lib{name}.so.0", functions.split(), versions)
    for name in _NATIVE & set(engines):
        build_native(name, root / "stub")


def _move_festival(root: Path) -> None:
    """Write the place of festival's data into the three files that hold it."""
    for name in ("lexicons", "voices", "languages"):
        file = root / f"usr/share/festival/{name}.scm"
        text = file.read_text(encoding="latin1")
        file.write_text(text.replace('"/usr/share/festival', f'"{root}/usr/share/festival'), encoding="latin1")


def _stand_in(library: Path, functions: list[str], versions: str) -> None:
    """Compile a shared library whose functions all return 0, with a linker's version script if given."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stub.c"), Path(folder, "stub.map")
        source.write_text("".join(f"long {function}(void) {{ return 0; }}\n" for function in functions))
        script.write_text(versions)
        compile_library(source, library, "-nostdlib", *([f"-Wl,--version-script={script}"] if versions else []))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    packages = dict.fromkeys(package for names in PACKAGES.values() for package in names)
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.corpora.synthetic.unpack", description="Unpack the synthesisers.")
    parser.add_argument("debs", type=Path, help=f"folder with the .deb files of {', '.join(packages)}")
    parser.add_argument("root", type=Path, help="folder to unpack them to")
    parser.add_argument("--engines", default=",".join(PACKAGES), help="only these, with commas between (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        unpack(options.debs, options.root, options.engines.split(","))
    except SynthesisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"unpacked; use --root {options.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
