"""Repstream: live exercise recognition from wearable motion sensors, on Apache Kafka.

This package is the vocabulary that the services share; it imports none of them
(``cli`` does, inside the command that runs one).
"""

__version__ = "0.1.0"
