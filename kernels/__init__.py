"""Triton kernels with their references. Imports nothing else of riverrun."""
