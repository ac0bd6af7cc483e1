"""Grafana as code: what it reads when it starts, and the dashboards' source; imports repstream and monitor."""
