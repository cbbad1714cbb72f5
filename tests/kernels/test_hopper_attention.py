"""Attention and convolution kernels compile for Hopper with the blocks they are launched with, without spilling registers."""

import pytest

from riverrun.kernels.convolution import triton as convolution
from riverrun.kernels.step_attention import triton as step_attention
from riverrun.kernels.window_attention import triton as window_attention

from .hopper import compile_for_hopper
from .test_hopper import SHARED_MEMORY, floats

NAMES = {2: "bf16", 4: "fp32"}
#: What a configuration may choose freely; strides are multiples of a head's width.
ODD = ("C", "T", "W", "span", "chunk", "left", "sinks", "turns", "bias_row", "bias_head", "bias_frame")


def tensors(itemsize, of_input, wide):
    return floats(*of_input.split(), dtype=NAMES[itemsize]) | floats(*wide.split()) | {"lengths_ptr": "*i64", "slots_ptr": "*i64"}


def absent(**present):
    return {f"{name}_ptr": None for name, there in present.items() if not there}


def step_case(itemsize, width, queries, rotates=True, bias=False, sinks=False, sigmoid=None):
    constants = {"GROUP": 1, "ROTATES": rotates, "HAS_BIAS": bias, "HAS_SINKS": sinks, "SCALE": 0.125, "SIGMOID": sigmoid}
    constants |= absent(bias=bias, cos=rotates, sin=rotates)
    types = tensors(itemsize, "q k v keys values out bias", "cos sin") | {"seen_ptr": "*i64"}
    return step_attention.step_kernel, types, constants | step_attention.launch(itemsize, width, queries)


def window_case(direction, itemsize, width, bias=True, slopes=False, sigmoid=None):
    kernel = getattr(window_attention, f"{direction}_kernel")
    constants = {"GROUP": 1, "HAS_BIAS": bias, "HAS_SLOPES": slopes, "SCALE": 0.125, "SIGMOID": sigmoid}
    constants |= absent(bias=bias, slopes=slopes)
    types = tensors(itemsize, "q k v out grad dq dk dv bias band", "norm delta slopes")
    return kernel, types, constants | window_attention.launch(itemsize, width, int(direction != "forward"), direction == "keys_backward")


def convolution_case(direction, channels, taps, step=False):
    constants = {"CHANNELS": channels, "TAPS": taps, "EPS": 1e-5}
    if sliding := {"convolve": "convolve", "gate_backward": "gate"}.get(direction):
        constants |= convolution.sliding(sliding)
    else:
        constants |= convolution.normalising(channels, direction.replace("_", " "))
    constants |= {"STEP": step} | absent(slots=step, lengths=step, state=step)
    kernel = getattr(convolution, f"{direction}_kernel")
    types = tensors(2, "x convolved out grad dconvolved dx state", "weight bias gamma beta sums")
    sizes = "num_warps", "num_stages"
    return kernel, types, {name: value for name, value in constants.items() if name in (*kernel.arg_names, *sizes)}


CASES = {
    "step": step_case(2, 64, 16),
    "step-grouped-with-everything": step_case(2, 64, 64, bias=True, sinks=True),
    "step-transformer-xl": step_case(2, 64, 32, rotates=False, bias=True),
    "step-80": step_case(2, 80, 32),
    "step-128-with-everything": step_case(2, 128, 32, bias=True, sinks=True),
    "step-32": step_case(2, 32, 32),
    "step-fp32": step_case(4, 64, 16),
    "window": window_case("forward", 2, 64, bias=False),
    "window-alibi-sigmoid": window_case("forward", 2, 64, bias=False, slopes=True, sigmoid=-5.0),
    "window-biased": window_case("forward", 2, 64),
    "window-queries": window_case("queries_backward", 2, 64),
    "window-keys": window_case("keys_backward", 2, 64),
    "window-keys-sigmoid": window_case("keys_backward", 2, 64, sigmoid=-5.0),
    "window-96": window_case("forward", 2, 96),
    "window-96-queries": window_case("queries_backward", 2, 96),
    "window-96-keys": window_case("keys_backward", 2, 96),
    "window-fp32": window_case("forward", 4, 64),
    "window-fp32-queries": window_case("queries_backward", 4, 64),
    "window-fp32-keys": window_case("keys_backward", 4, 64),
    "window-fp32-96": window_case("forward", 4, 96),
    "window-fp32-96-queries": window_case("queries_backward", 4, 96),
    "window-fp32-96-keys": window_case("keys_backward", 4, 96),
    "convolution": convolution_case("convolve", 512, 31),
    "convolution-step": convolution_case("convolve", 512, 15, step=True),
    "convolution-norm": convolution_case("norm", 512, 31),
    "convolution-norm-backward": convolution_case("norm_backward", 512, 31),
    "convolution-gate": convolution_case("gate_backward", 512, 31),
    "convolution-wide": convolution_case("norm_backward", 2048, 15),
}


@pytest.mark.parametrize("name", CASES)
def test_compiles_without_spills(name, tmp_path):
    kernel, types, constants = CASES[name]
    constants = dict(constants)
    warps, stages = constants.pop("num_warps"), constants.pop("num_stages", 3)
    resources = compile_for_hopper(kernel, types, constants, tmp_path, warps, stages, ODD)
    assert resources.spilled == 0 and resources.shared <= SHARED_MEMORY
