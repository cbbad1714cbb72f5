"""Every kernel against its definition, in Triton's interpreter where there is no GPU.

Triton decides when it is first imported whether to interpret, so each family runs in a process of its own: the variable
neither comes too late here nor leaks into other tests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "interpreted"


@pytest.mark.parametrize("family", sorted(path.stem.removeprefix("check_") for path in FOLDER.glob("check_*.py")))
def test_kernels_equal_their_definition(family):
    environment = os.environ if torch.cuda.is_available() else os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FOLDER / f"check_{family}.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=FOLDER.parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
