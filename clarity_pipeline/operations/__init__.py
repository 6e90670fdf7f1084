"""What the pipeline does for its users, put together from the Export API and the store.

Dagster, the command line and the panel are three ways to ask for the same operations, so those
live here and know none of the three.
"""
