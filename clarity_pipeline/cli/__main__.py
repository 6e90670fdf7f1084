"""`python -m clarity_pipeline.cli` is the `clarity` command."""

import sys

from clarity_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
