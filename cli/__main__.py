"""``python -m cli`` is the command ``repstream``."""

from cli.app import main

main()
