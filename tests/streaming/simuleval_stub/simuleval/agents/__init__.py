"""An agent and its states; and, unlike SimulEval, the loop over recordings that drives it as SimulEval 1.1.4's evaluator does."""

from __future__ import annotations

from typing import Any

from .actions import Action, ReadAction, WriteAction


class States:
    """What has been sent and written."""

    def reset(self) -> None:
        self.source: list[Any] = []
        self.source_finished = self.target_finished = False
        self.source_sample_rate, self.tgt_lang = 0, None


class SpeechToTextAgent:
    """Base of agents: asked once for each segment of audio."""

    def __init__(self, args: Any):
        self.args, self.states = args, States()
        self.reset()

    def reset(self) -> None:
        self.states.reset()

    def policy(self) -> Action:
        """What to do next: every agent says so itself, as in SimulEval."""
        raise NotImplementedError


def evaluate(agent: Any, recordings: list[tuple[list[Any], int, str | None]], segment_ms: int) -> list[list[tuple[float, str]]]:
    """Send recordings (samples, rate, language) in segments; what was written of each, with the milliseconds that had been sent.

    An agent is reset at the beginning and wherever it has said that it has finished, and at no other time: one that does not say so at
    the end of a recording takes its state along into the next.
    """
    agent.reset()
    logs = []
    for samples, rate, language in recordings:
        log: list[tuple[float, str]] = []
        size, sent, ended = segment_ms * rate // 1000, 0, False
        while not ended:
            states = agent.states
            ended = sent + size >= len(samples)
            states.source_finished = ended
            if samples:
                states.source += samples[sent : sent + size]
                states.source_sample_rate, states.tgt_lang = rate, language
            sent = min(sent + size, len(samples))
            if states.target_finished:
                continue
            action = agent.policy()
            if isinstance(action, WriteAction):
                if action.content:
                    log.append((sent * 1000 / rate, action.content))
                states.target_finished = action.finished
                if action.finished:
                    agent.reset()
        logs.append(log)
    return logs


__all__ = ["Action", "ReadAction", "SpeechToTextAgent", "WriteAction", "evaluate"]
