"""A long run with faults that roll over the services: see `run`."""
