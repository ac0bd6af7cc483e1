"""From recordings to models, offline; no service imports this."""
