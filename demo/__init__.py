"""``repstream demo``: broker, producer and predictor on this machine, watched from outside.

``roster`` (who sends what), ``live`` (what is seen), ``table`` (how it looks) and ``ledger`` (whether all
of it came, once and right) are pure; ``topics`` reads Kafka, ``children`` holds the services' processes,
``run`` puts it together. The demo looks at topics and metrics as anyone could; no service imports it.
"""
