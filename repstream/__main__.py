"""``python -m repstream`` is the command ``repstream``."""

from repstream.cli import main

main()
