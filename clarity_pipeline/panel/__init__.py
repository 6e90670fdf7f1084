"""The web application for people who never open Dagster, and the API for their programs."""
