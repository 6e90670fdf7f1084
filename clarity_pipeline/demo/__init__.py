"""An invented agency, collected for real: what `clarity demo` and `clarity dev` show.

Only Clarity itself is played, by the emulator. Store, ledger, HTTP client and Dagster job are the
real ones, in a directory of their own. How it is shown on a terminal is up to the caller.
"""
