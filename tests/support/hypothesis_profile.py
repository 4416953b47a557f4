"""How hypothesis runs here: without a time limit, since the machine may be busy; the same examples each time."""

from hypothesis import settings

settings.register_profile("hapolicy", deadline=None, max_examples=150, derandomize=True, database=None)
settings.load_profile("hapolicy")
