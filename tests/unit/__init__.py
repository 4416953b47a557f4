"""One test file a room of the package; no process is started but where a room is about descriptors."""
