"""What the live page shows, kept ready: pure rings, two readers of Kafka, one broadcaster."""
