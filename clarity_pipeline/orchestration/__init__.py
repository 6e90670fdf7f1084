"""Dagster, and nothing else: assets, checks, jobs and schedules over `operations`."""
