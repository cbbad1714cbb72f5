"""Speech translation: an attention encoder-decoder with a CTC head on the source, and a text-to-text reference of the same decoder."""
