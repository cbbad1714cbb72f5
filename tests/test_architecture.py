"""The layout is what the design says: rooms, arrows, packaging."""

import ast
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("cli", "kernels", "recipes", "speech", "streaming")
MAY_IMPORT = {
    "streaming": set(),
    "kernels": set(),
    "speech": {"streaming", "kernels"},
    "recipes": {"speech", "streaming", "kernels"},
    "cli": {"recipes", "speech", "streaming", "kernels"},
}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def rooms_imported(path: Path) -> set[str]:
    """Rooms that a file imports, at its head or anywhere else."""
    package = ("riverrun", *path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        found |= {name[1] for name in names if name[0] == "riverrun" and len(name) > 1 and name[1] in ROOMS}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert rooms_imported(path) <= MAY_IMPORT[room] | {room}


def packages_on_disk() -> set[str]:
    return {".".join(("riverrun", *path.parent.relative_to(ROOT).parts)) for path in FILES if path.name == "__init__.py"}


def test_every_package_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(declared) == sorted(packages_on_disk())
    folders = {".".join(("riverrun", *path.parent.relative_to(ROOT).parts)) for path in FILES}
    assert folders == packages_on_disk(), "a folder with modules lacks its __init__.py"


def test_top_level_has_the_rooms_of_the_design() -> None:
    assert all((ROOT / room / "py.typed").exists() for room in ROOMS)
    assert {"pyproject.toml", "README.md", "LICENSE", "CONTRIBUTING.md", "Makefile", "tests"} <= {p.name for p in ROOT.iterdir()}


def test_wheel_in_a_clean_environment_imports_everything(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("riverrun-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.startswith("riverrun/speech/pretrained/") and n.endswith("model.safetensors") for n in names), (
        "the default model is not packed"
    )
    assert not any(n.startswith("riverrun/tests") or n.startswith("tests") for n in names)
    # An environment of its own that borrows third-party packages from this one, but not riverrun's editable install.
    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(tmp_path / "env")
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    borrowed = [p for p in map(Path, sys.path) if p.name == "site-packages"]
    check = (
        f"import sys; sys.path += {[str(p) for p in borrowed]!r}\n"
        "import importlib, pathlib, riverrun\n"
        f"assert str(pathlib.Path({str(site)!r}).resolve()) in str(pathlib.Path(list(riverrun.__path__)[0]).resolve()), riverrun.__path__\n"
        f"for name in {sorted(packages_on_disk())!r}: importlib.import_module(name)\n"
    )
    subprocess.run([tmp_path / "env" / "bin" / "python", "-c", check], check=True, cwd=tmp_path)


def test_the_demo_has_its_recording() -> None:
    (recording,) = re.findall(r"riverrun transcribe (\S+)", (ROOT / "Makefile").read_text())
    assert (ROOT / recording).is_file()
