"""The fused convolution against the layer whose middle it is, and finite differences."""

import pytest
import torch
import torch.nn.functional as F

from riverrun.kernels.convolution import causal_convolution, causal_convolution_step, op
from riverrun.kernels.convolution.op import convolution, convolution_step
from riverrun.speech.encoders.conformer import CausalConvolution

F64 = torch.float64


@pytest.fixture(autouse=True, params=["torch", "definition"])
def _computed_by(request, monkeypatch):
    """Everything here holds for PyTorch's own layers and for the definition."""
    if request.param == "definition":
        monkeypatch.setattr(op, "_by_torch", lambda *_: False)


def parts(layer):
    return layer.depthwise.weight, layer.depthwise.bias, layer.inner_norm.weight, layer.inner_norm.bias, layer.inner_norm.eps


def layer(kernel=5):
    torch.manual_seed(0)
    made = CausalConvolution(6, kernel, 0.0).double()
    for parameter in (*made.inner_norm.parameters(), *made.norm.parameters()):
        torch.nn.init.normal_(parameter)
    return made


def plain(module, x):
    window = F.pad(F.glu(module.expand(module.norm(x))), (0, 0, module.depthwise.kernel_size[0] - 1, 0))
    return module.project(F.silu(module.inner_norm(module.depthwise(window.transpose(1, 2)).transpose(1, 2))))


@pytest.mark.parametrize("frames", [1, 3, 12])
def test_equals_the_layer(frames):
    """Outputs and the gradients of input and all parameters."""
    module = layer()
    x = torch.randn(2, frames, 6, dtype=F64, requires_grad=True)
    expected = plain(module, x)
    ours = module.project(causal_convolution(module.expand(module.norm(x)), *parts(module)))
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(y.square().sum(), (x, *module.parameters())) for y in (ours, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kernel", [1, 2, 5])
@torch.no_grad()
def test_steps_equal_the_layer(kernel):
    module, slots = layer(kernel), torch.tensor([2, 0, 3])
    expected_state = module.init_state(3, torch.zeros(1, dtype=F64))
    state = torch.zeros(4, kernel - 1, 6, dtype=F64)
    for step in ([4, 0, 1], [3, 4, 0], [1, 2, 4]):
        lengths, x = torch.tensor(step), torch.randn(3, 4, 6, dtype=F64)
        expected, _, expected_state = module.step(x, lengths, expected_state)
        before = state.clone()
        weight, *others = parts(module)
        ours = module.project(convolution_step(module.expand(module.norm(x)), slots, lengths, state, weight[:, 0], *others))
        for row, length in enumerate(step):
            torch.testing.assert_close(ours[row, :length], expected[row, :length])
        torch.testing.assert_close(state[slots], expected_state.frames)
        idle = slots[lengths == 0]
        assert torch.equal(state[idle], before[idle])


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=F64, requires_grad=True) for s in ((2, 5, 6), (3, 1, 3), (3,), (3,), (3,))]
    assert torch.autograd.gradcheck(causal_convolution, tensors, fast_mode=True)


def test_under_autocast_sums_stay_wide():
    """Half-precision input with float32 parameters: rounded once on the way in and once on the way out."""
    module = layer().float()
    x = torch.randn(2, 20, 12)
    half, exact = causal_convolution(x.bfloat16(), *parts(module)), causal_convolution(x.bfloat16().float(), *parts(module))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)


def test_nothing_and_one_frame():
    weights = parts(layer())
    for shape in ((0, 4, 12), (2, 0, 12)):
        x = torch.zeros(shape, dtype=F64, requires_grad=True)
        y = causal_convolution(x, *weights)
        assert y.shape == (*shape[:2], 6)
        assert torch.autograd.grad(y.sum(), x)[0].shape == shape
    x = torch.randn(1, 1, 12, dtype=F64)
    alone = F.glu(x) * weights[0][:, 0, -1] + weights[1]
    torch.testing.assert_close(causal_convolution(x, *weights), F.silu(F.layer_norm(alone, (6,), weights[2], weights[3])))


def test_operators_obey_pytorch():
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=F64, requires_grad=True) for s in ((2, 5, 6), (3, 3), (3,), (3,), (3,))]
    torch.library.opcheck(convolution, (*tensors, 1e-5))
    x, *weights = (t.detach() for t in tensors)
    torch.library.opcheck(convolution_step, (x, torch.tensor([1, 0]), torch.tensor([5, 2]), x.new_zeros(2, 2, 3), *weights, 1e-5))


def test_errors_say_what_fits():
    weights = parts(layer())
    with pytest.raises(ValueError, match="should be"):
        causal_convolution(torch.zeros(1, 3, 10), *weights)
    with pytest.raises(ValueError, match="each be"):
        causal_convolution(torch.zeros(1, 3, 12), weights[0], weights[1][:4], *weights[2:])
    with pytest.raises(ValueError, match="state"):
        causal_convolution_step(torch.zeros(1, 3, 12), torch.tensor([0]), torch.tensor([3]), torch.zeros(1, 3, 6), *weights)
    with pytest.raises(ValueError, match="float64 should be"):
        causal_convolution_step(torch.zeros(1, 3, 12), torch.tensor([0]), torch.tensor([3]), torch.zeros(1, 4, 6, dtype=F64), *weights)
