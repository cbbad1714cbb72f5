"""Every kernel compiles for Hopper at the sizes it is used at, without spilling registers."""

import pytest

from riverrun.kernels.monotonic import triton as monotonic
from riverrun.kernels.transducer import triton as transducer
from riverrun.kernels.transducer import triton_joiner as joiner
from riverrun.kernels.viterbi import triton as viterbi

from .hopper import compile_for_hopper

SHARED_MEMORY = 227 * 1024  # a program's limit on Hopper
LENGTHS = {"frames_ptr": "*i64", "labels_ptr": "*i64"}


def floats(*names, dtype="fp32"):
    return {f"{name}_ptr": f"*{dtype}" for name in names}


ARCS = (
    floats("logits", "out", dtype="bf16") | floats("label", "blank", "norm", "label_grad", "blank_grad") | {"targets_ptr": "*i64"} | LENGTHS
)
LATTICE = floats("label", "blank", "label_count", "blank_count") | floats("alpha", "beta", "total", dtype="fp64") | LENGTHS
JOINER = floats("encoder", "predictor", "hidden", "grad", dtype="bf16") | floats("parts", "predictor_grad")
CTC = floats("log_probs", "score") | {"targets_ptr": "*i64", "words_ptr": "*i32", "end_ptr": "*i32", "path_ptr": "*i64"} | LENGTHS
SEARCH = floats("scores") | {"words_ptr": "*i32", "durations_ptr": "*i64"} | LENGTHS
ROWS = floats("p", "alpha", "q", "grad", "out", "x", "energy", "norm")

CASES = [
    (transducer.arcs_kernel, ARCS, {"ROWS": 2, "BLOCK": 512, "HAS_FIRST": False, "first_ptr": None}, 1),
    (transducer.arcs_kernel, ARCS | {"first_ptr": "*i64"}, {"ROWS": 1, "BLOCK": 1024, "HAS_FIRST": True}, 1),
    (transducer.arcs_backward_kernel, ARCS, {"ROWS": 2, "BLOCK": 512, "HAS_FIRST": False, "first_ptr": None}, 1),
    (transducer.lattice_kernel, LATTICE, {"BLOCK": 256, "STAGES": 4}, 8),
    (transducer.lattice_kernel, LATTICE, {"BLOCK": 1024, "STAGES": 4}, 8),
    (transducer.lattice_kernel, LATTICE, {"BLOCK": 4096, "STAGES": 1}, 8),
    (transducer.count_kernel, LATTICE, {"BLOCK": 1024}, 4),
    (joiner.join_kernel, JOINER, {"TANH": True, "ROWS": 4, "BLOCK": 512}, 4),
    (joiner.join_backward_kernel, JOINER, {"TANH": True, **dict(zip(("ROWS", "BLOCK"), joiner.BACKWARD, strict=True))}, 1),
    (viterbi.ctc_kernel, CTC, {"BLOCK": 1024, "STAGES": 8}, 16),
    (viterbi.ctc_kernel, CTC, {"BLOCK": 4096, "STAGES": 1}, 16),
    (viterbi.ctc_walk_kernel, CTC, {}, 1),
    (viterbi.monotonic_kernel, SEARCH, {"BLOCK": 1024, "STAGES": 8}, 16),
    (viterbi.monotonic_kernel, SEARCH, {"BLOCK": 4096, "STAGES": 1}, 16),
    (viterbi.monotonic_walk_kernel, SEARCH, {}, 1),
    (monotonic.alignment_kernel, ROWS, {"BLOCK": 512}, 8),
    (monotonic.alignment_kernel, ROWS, {"BLOCK": 2048}, 16),
    (monotonic.alignment_backward_kernel, ROWS, {"BLOCK": 2048}, 16),
    (monotonic.normaliser_kernel, ROWS, {"WIDTH": 8, "BLOCK": 512}, 4),
    (monotonic.window_kernel, ROWS, {"WIDTH": 8, "COLLECT": False, "BLOCK": 512}, 4),
    (monotonic.window_kernel, ROWS, {"WIDTH": 8, "COLLECT": True, "BLOCK": 512}, 4),
    (monotonic.running_kernel, ROWS, {"COLLECT": False, "BLOCK": 2048}, 16),
    (monotonic.running_kernel, ROWS, {"COLLECT": True, "BLOCK": 2048}, 16),
]


@pytest.mark.parametrize(
    ("kernel", "types", "constants", "warps"), CASES, ids=[f"{k.__name__}-{c.get('BLOCK', 1)}" for k, _, c, _ in CASES]
)
def test_compiles_without_spills(kernel, types, constants, warps, tmp_path):
    resources = compile_for_hopper(kernel, types, constants, tmp_path, warps)
    assert resources.spilled == 0 and resources.shared <= SHARED_MEMORY
