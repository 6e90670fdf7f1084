"""How the panel is served."""

from __future__ import annotations

import gc

from clarity_pipeline.panel.serve import imports_set_aside


def test_while_the_panel_serves_nobody_looks_for_garbage_among_its_modules() -> None:
    before = gc.get_freeze_count()
    with imports_set_aside():
        assert gc.get_freeze_count() > before + 10_000
    assert gc.get_freeze_count() <= before
