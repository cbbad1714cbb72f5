"""Speech recognition: a Lightning module, a data module, configurations."""
