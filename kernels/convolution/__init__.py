"""The middle of a causal convolution module: gate, depthwise convolution, layer norm and SiLU, with their streaming state."""

from .op import causal_convolution, causal_convolution_step

__all__ = ["causal_convolution", "causal_convolution_step"]
