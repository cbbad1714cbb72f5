"""Everything that needs a GPU: ``python -m tests.kernels.gpu [FILTER …]``, one process a file, all at once; 1 if any fails.

The files are named so that plain test runs, which have no GPU, pass them by. Those of ``interpreted`` run on the GPU as well.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
TIMING = "check_graphs.py"  # times itself, so it runs alone


def start(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-s" if file.name == TIMING else "-q", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=FOLDER.parents[2])


def finish(file: Path, process: subprocess.Popen[str], began: float) -> bool:
    said, _ = process.communicate()
    lines = said.strip().splitlines() or [""]
    print(f"{'ok    ' if process.returncode == 0 else 'FAILED'} {time.monotonic() - began:5.0f} s  {file.stem}: {lines[-1]}", flush=True)
    if file.name == TIMING:
        print("\n".join(line for line in lines if line.startswith("  ")), flush=True)
    if process.returncode:
        errors = [line for line in lines if line.startswith(("E  ", "FAILED", "ERROR"))]
        print("\n".join((errors or lines)[:40]), flush=True)
    return process.returncode == 0


def main(filters: list[str]) -> int:
    if "TRITON_INTERPRET" in os.environ:
        print("TRITON_INTERPRET is set: these checks are for kernels on a GPU", file=sys.stderr)
        return 2
    files = sorted([*FOLDER.glob("check_*.py"), *(FOLDER.parent / "interpreted").glob("check_*.py")])
    files = [file for file in files if not filters or any(word in str(file) for word in filters)]
    began = time.monotonic()
    together = [(file, start(file)) for file in files if file.name != TIMING]
    good = [finish(file, process, began) for file, process in together]
    good += [finish(file, start(file), began) for file in files if file.name == TIMING]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
