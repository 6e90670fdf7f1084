"""Pure decisions: no network, no database, no clock, no Dagster. Time and ids are arguments."""
