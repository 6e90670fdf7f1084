from __future__ import annotations

from clarity_pipeline_tests.agency import agency, emulator_server

__all__ = ["agency", "emulator_server"]
