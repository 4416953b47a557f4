"""The life of the process: start, signals, reload, drain, stop, and what it tells the service manager."""
