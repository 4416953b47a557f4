"""Decisions and formats, pure: no socket, thread, clock or logging. Every other package may import it."""
