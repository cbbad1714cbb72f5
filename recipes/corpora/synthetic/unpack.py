"""Unpack the synthesisers' Debian packages into a folder, installing nothing.

``python -m riverrun.recipes.corpora.synthetic.unpack DEBS ROOT`` makes ROOT what the corpus command takes as ``--root``.
The packages come from ``apt-get download`` of the names in `PACKAGES`. dpkg-deb unpacks them; a C compiler (``cc``) makes empty stand-ins
for the sound servers' libraries, which the engines are linked to and never use here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .engine import SynthesisError

PACKAGES = (
    "espeak-ng-data", "libespeak-ng1", "libsonic0", "libflite1", "libasound2", "festival", "libestools2.5", "festlex-cmu", "festlex-poslex",
    "festvox-kallpc16k", "festvox-kdlpc16k", "festvox-us-slt-hts",
)  # fmt: skip
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


def unpack(debs: Path, root: Path) -> None:
    """Make ``root`` fit to be the ``--root`` of the corpus command.

    Raises:
        SynthesisError: a package is missing, or dpkg-deb or the compiler is missing or fails.
    """
    archives = [sorted(debs.glob(f"{package}_*.deb")) for package in PACKAGES]
    missing = [package for package, found in zip(PACKAGES, archives, strict=True) if not found]
    if missing:
        raise SynthesisError(f"{debs} lacks the packages {' '.join(missing)}; fetch them with apt-get download")
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    for found in archives:
        _run("dpkg-deb", "-x", str(found[-1]), str(root))
    for name in ("lexicons", "voices", "languages"):  # festival has its data's path written into three files
        file = root / f"usr/share/festival/{name}.scm"
        text = file.read_text(encoding="latin1")
        file.write_text(text.replace('"/usr/share/festival', f'"{root}/usr/share/festival'), encoding="latin1")
    (root / "stub").mkdir(exist_ok=True)
    for name, (functions, versions) in _STAND_INS.items():
        _stand_in(root / f"stub/lib{name}.so.0", functions.split(), versions)


def _stand_in(library: Path, functions: list[str], versions: str) -> None:
    """Compile a shared library whose functions all return 0, with a linker's version script if given."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stub.c"), Path(folder, "stub.map")
        source.write_text("".join(f"long {function}(void) {{ return 0; }}\n" for function in functions))
        script.write_text(versions)
        options = [f"-Wl,--version-script={script}"] if versions else []
        _run("cc", "-shared", "-nostdlib", "-fPIC", "-O2", *options, f"-Wl,-soname,{library.name}", "-o", str(library), str(source))


def _run(program: str, *arguments: str) -> None:
    try:
        subprocess.run([program, *arguments], check=True, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise SynthesisError(f"{program} is needed and is not installed") from None
    except subprocess.CalledProcessError as error:
        raise SynthesisError(f"{program} failed: {' '.join(error.stderr.split())}") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.corpora.synthetic.unpack", description="Unpack the synthesisers.")
    parser.add_argument("debs", type=Path, help=f"folder with the .deb files of {', '.join(PACKAGES)}")
    parser.add_argument("root", type=Path, help="folder to unpack them to")
    options = parser.parse_args(arguments)
    try:
        unpack(options.debs, options.root)
    except SynthesisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"unpacked; use --root {options.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
