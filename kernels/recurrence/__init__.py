"""Attention by recurrence: lightning attention, RAT, moving averages."""

from .op import lightning_attention, lightning_decays, lightning_step
from .op_scan import damped_ema, gated_scan
from .rat import RatState, rat_attention

__all__ = ["RatState", "damped_ema", "gated_scan", "lightning_attention", "lightning_decays", "lightning_step", "rat_attention"]
