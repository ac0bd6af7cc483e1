"""Predictions and labels in; drift, accuracy and reports out."""
