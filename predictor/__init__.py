"""From packets to predictions, exactly once: samples topic in, predictions topic out."""
