"""What can be wrong with a corpus."""


class CorpusError(ValueError):
    """A source, a folder or an utterance that cannot be used; the message says which and why."""
