"""The server on a Ray cluster: streams pinned to replicas, autoscaling, and snapshots so that a replica's death loses nothing.

``serve run riverrun.streaming.deploy:application`` or ``serve deploy riverrun.yaml``; see README.md in this folder. Needs the
extra ``ray``.
"""

from .application import application
from .settings import Settings

__all__ = ["Settings", "application"]
