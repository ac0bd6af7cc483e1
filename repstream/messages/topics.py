"""Topics and consumer groups by name."""

SAMPLES = "samples"
LABELS = "labels"
PREDICTIONS = "predictions"
DEAD_LETTER = "samples.dead-letter"
ALARMS = "alarms"
LEDGER = "ledger"
CONTROL = "control"

# Of topics that are not there yet, where nobody says how many.
DEFAULT_PARTITIONS = 4
# A command that is older than an hour is not obeyed by whoever starts now.
CONTROL_CONFIG = {"retention.ms": "3600000"}

# Consumer groups, where nobody names others.
PREDICTOR_GROUP = "repstream-predictor"
MONITOR_GROUP = "repstream-monitor"

# Larger than any junk that the contract promises to keep as a dead letter (10 MB).
MAX_MESSAGE_BYTES = 16_777_216
