"""Recurrence and entmax kernels compile for Hopper at the sizes of their tables, without spilling registers."""

import pytest

from riverrun.kernels.entmax import triton as entmax
from riverrun.kernels.recurrence import triton as lightning
from riverrun.kernels.recurrence import triton_scan as scan

from .hopper import compile_for_hopper

SHARED_MEMORY = 227 * 1024
TYPES = {2: "*bf16", 4: "*fp32"}
TYPED = ["q", "k", "v", "grad", "out", "x", "y", "u", "gate", "dq", "dk", "dv", "dx", "du", "dgate"]
WIDE = ["log_decay", "state", "after", "after_grad", "dstate", "decay", "weight", "ddecay", "dweight", "alpha", "tau", "centre", "dalpha"]
INTEGERS = ["lengths", "slots", "phase", "filled"]
ODD = "T", "N", "chunk", "left", "past"  # strides are multiples of 16


def check(kernel, itemsize, sizes, folder):
    types = {f"{name}_ptr": TYPES[itemsize] for name in TYPED} | {f"{name}_ptr": "*fp32" for name in WIDE}
    types |= {f"{name}_ptr": "*i64" for name in INTEGERS}
    warps, stages = sizes.pop("num_warps"), sizes.pop("num_stages", 3)
    constants = {name: value for name, value in sizes.items() if name in kernel.arg_names}
    resources = compile_for_hopper(kernel, types, constants, folder, warps, stages, ODD)
    assert resources.spilled == 0 and resources.shared <= SHARED_MEMORY


@pytest.mark.parametrize(("itemsize", "width"), [(2, 64), (2, 128), (4, 64)])
@pytest.mark.parametrize("kernel", ["forward_kernel", "backward_kernel"])
def test_lightning(kernel, itemsize, width, tmp_path):
    sizes = lightning.launch(itemsize, width, width, 1000, lightning.BACKWARD if kernel == "backward_kernel" else lightning.FORWARD) | {
        "HAS_STATE": True,
        "HAS_SLOTS": True,
    }
    check(getattr(lightning, kernel), itemsize, sizes, tmp_path)


def test_lightning_step(tmp_path):
    check(lightning.forward_kernel, 2, lightning.launch(2, 64, 64, 8, lightning.STEP) | {"HAS_STATE": True, "HAS_SLOTS": True}, tmp_path)


@pytest.mark.parametrize("kernel", ["scan_kernel", "scan_backward_kernel"])
def test_scan(kernel, tmp_path):
    check(getattr(scan, kernel), 2, scan.scan_launch(1000) | {"HAS_STATE": True, "HAS_PHASE": True}, tmp_path)


@pytest.mark.parametrize(("kernel", "backward"), [("ema_kernel", False), ("ema_backward_kernel", True)])
def test_moving_averages(kernel, backward, tmp_path):
    check(getattr(scan, kernel), 4, scan.ema_launch(1000, 16, backward), tmp_path)


@pytest.mark.parametrize(("itemsize", "width", "keys"), [(2, 64, 512), (2, 64, 1024), (2, 128, 512), (4, 64, 512)])
def test_entmax_forward(itemsize, width, keys, tmp_path):
    sizes = entmax.forward_launch(itemsize, width, keys, 0, keys, 0)
    assert sizes["KEYS"] == keys
    flags = {"GROUP": 1, "SCALE": 0.125, "STEPS": entmax.STEPS[itemsize]}
    check(entmax.forward_kernel, itemsize, sizes | flags, tmp_path)


@pytest.mark.parametrize(("itemsize", "width"), [(2, 64), (2, 128), (4, 64)])
@pytest.mark.parametrize("owns_keys", [False, True])
def test_entmax_backward(itemsize, width, owns_keys, tmp_path):
    kernel = entmax.keys_backward_kernel if owns_keys else entmax.queries_backward_kernel
    check(kernel, itemsize, entmax.backward_launch(itemsize, width, owns_keys) | {"GROUP": 1, "SCALE": 0.125}, tmp_path)
