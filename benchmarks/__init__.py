"""hapolicy beside its predecessor and HAProxy, measured: ``make bench``, or ``python -m benchmarks.run``."""
