"""Limited-context attention over whole inputs, for training: forward, and gradients that are the same in every run."""

from .op import window_attention

__all__ = ["window_attention"]
