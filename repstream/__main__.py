"""``python -m repstream`` is the command ``repstream``, which stands above this package."""

import runpy

runpy.run_module("cli", run_name="__main__")
