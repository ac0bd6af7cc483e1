"""The producer: recordings replayed as wearers, live or faster, into Kafka.

``schedule`` (who sends what when), ``replay`` (the messages) and the faults are pure: ``inject`` reads
them, ``injector`` puts them where ``fault_kinds`` says, ``material`` finds what they need;
``resume`` reads what the log holds already, ``service`` sends. Nothing here imports another service.
"""
