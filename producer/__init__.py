"""The producer: recordings replayed as wearers, live or faster, into Kafka.

``inject`` (faults), ``schedule`` (who sends what when) and ``replay`` (the messages) are pure;
``resume`` reads what the log holds already, ``service`` sends. Nothing here imports another service.
"""
