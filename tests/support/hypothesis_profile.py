"""How hypothesis runs here: without a time limit, since the machine may be busy; the same examples each time."""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("HAPOLICY_TEST_EXAMPLES", "150"))
settings.register_profile("hapolicy", deadline=None, max_examples=EXAMPLES, derandomize=True, database=None)
settings.load_profile("hapolicy")
