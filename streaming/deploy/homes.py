"""Where a stream is at home: the replica that holds it, which its resume token names.

A front that gets a resume token asks for that replica first: it lets go of the broken connection at once, and needs no
other's memory. If the replica is gone or full, any other goes on from the snapshot.
"""

from __future__ import annotations

import json
import random

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from ..server.protocol import ProtocolError, Start, parse_client


def named(message: str, home: str) -> str:
    """A ``ready`` message of the replica ``home``, whose token now names it; any other message as it is."""
    ready = json.loads(message)
    if ready.get("type") == "ready":
        ready["resume_token"] = f"{home}.{ready['resume_token']}"
        return json.dumps(ready)
    return message


def home_of(message: str) -> tuple[str, str]:
    """The home that a first message names, "" if none, and the message as that replica knows it."""
    try:
        start = parse_client(message)
    except ProtocolError:
        return "", message  # a replica will say what is wrong with it
    if not isinstance(start, Start) or start.resume is None:
        return "", message
    home, _, token = start.resume.token.rpartition(".")
    resume = start.resume.model_copy(update={"token": token})
    return home, start.model_copy(update={"resume": resume}).model_dump_json(exclude_none=True)


class HomeRouter(RequestRouter):
    """Sends a request to the replica that its session names; others to the less busy of two (power of two choices)."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas to ask, in ranks."""
        home = pending_request.metadata.session_id if pending_request else ""
        if pending_request:
            pending_request.routing_context.should_backoff = True  # when all are full, ask again later
        ranks = [[replica for replica in candidate_replicas if replica.replica_id.unique_id == home]]
        ranks.append(random.sample(candidate_replicas, min(2, len(candidate_replicas))))
        return [rank for rank in ranks if rank]
