"""``python -m riverrun.kernels.benchmarks``: see ``--help``."""

from .run import main

if __name__ == "__main__":
    raise SystemExit(main())
