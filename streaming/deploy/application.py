"""The Ray Serve application."""

# Annotations are evaluated, not postponed: Ray Serve makes `Settings` of a configuration's arguments by the annotation itself.

import secrets
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from .homes import HomeRouter
from .ingress import Ingress
from .replica import Replica
from .settings import Settings


def application(settings: Settings) -> Application:
    """The Ray Serve application, for ``serve run``, ``serve deploy`` or `ray.serve.run`."""
    key = secrets.token_urlsafe(32)
    fewest, most = settings.replicas
    router: dict[str, Any] = {"request_router_class": HomeRouter}
    replicas = serve.deployment(
        name="Replica",
        autoscaling_config=AutoscalingConfig(
            min_replicas=fewest,
            max_replicas=most,
            target_ongoing_requests=max(settings.busy * settings.max_streams, 1),
            upscale_delay_s=10,
            downscale_delay_s=600,
        ),
        max_ongoing_requests=settings.max_streams + 16,  # beyond its streams it answers requests, and refuses streams by itself
        request_router_config=RequestRouterConfig(**router),
        graceful_shutdown_timeout_s=settings.patience_s,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
    )(Replica)
    front = Ingress.options(  # type: ignore[attr-defined]  # ingress hides that it is a deployment
        num_replicas=settings.fronts, max_ongoing_requests=10000, ray_actor_options={"num_cpus": 0}
    )
    return front.bind(replicas.bind(settings, key), settings, key)
