"""What a user can mend."""


class TrainingError(ValueError):
    """A configuration, or data, that cannot be trained with: one line says what is wrong and what to do."""
