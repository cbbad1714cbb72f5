"""Synthetic speech with word times, spoken by free synthesisers that lie outside of riverrun.

espeak-ng, flite, festival, RHVoice and SVOX Pico are read from the system or from a folder with their Debian packages unpacked, the
networks of Kokoro and Piper from folders beside those; none is shipped, and nothing else of riverrun needs them.
``python -m riverrun.recipes.corpora.synthetic --help`` makes a packed corpus from a file of sentences.
"""
