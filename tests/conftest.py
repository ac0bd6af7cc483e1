"""How the property tests draw their examples."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples each time, so that what was green stays so; `HYPOTHESIS_PROFILE=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
