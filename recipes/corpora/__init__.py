"""Corpora for training: synthetic speech, text preparation, and packed audio."""
