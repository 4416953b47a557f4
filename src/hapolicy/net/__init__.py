"""I/O without policy: listeners, connections, name resolution."""
