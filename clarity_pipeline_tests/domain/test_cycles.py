"""Work that is spared the search for cycles."""

from __future__ import annotations

import gc

import pytest

from clarity_pipeline.domain.cycles import no_cyclic_garbage_collection


def test_the_search_for_cycles_rests_until_the_outermost_work_is_done() -> None:
    assert gc.isenabled()
    with no_cyclic_garbage_collection():
        with no_cyclic_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_work_that_fails_leaves_the_search_on() -> None:
    with pytest.raises(ValueError, match="broken"), no_cyclic_garbage_collection():
        raise ValueError("broken")
    assert gc.isenabled()
