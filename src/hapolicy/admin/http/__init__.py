"""The HTTP listener: metrics, health endpoints, the status page. Nothing can be changed through it."""
