"""What an agent answers."""

from dataclasses import dataclass


class Action:
    """Base."""


class ReadAction(Action):
    """More source, please."""


@dataclass
class WriteAction(Action):
    """Text, and whether it is the end of the target."""

    content: str
    finished: bool
