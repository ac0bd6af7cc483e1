"""Predictions and alarms kept for people to query."""
