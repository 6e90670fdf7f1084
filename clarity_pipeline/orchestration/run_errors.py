"""What went wrong in a run: all there is for whoever started it, our own words for everybody."""

from collections.abc import Iterable
from typing import Any, Final

import dagster as dg

from clarity_pipeline.domain.errors import ClarityError

_ENDED_WITHOUT_A_FAILING_STEP: Final = (
    "Its process died, was stopped, or ran for longer than it may."
)


def first_error(events: Iterable[dg.DagsterEvent]) -> str | None:
    """The message of the first step that failed; None when none did."""
    failure = _first_failure(events)
    if failure is None:
        return None
    if failure.user_failure_data is not None:
        return failure.user_failure_data.description
    error = _cause(failure)
    return error.message.strip() if error else None


def presentable_error(events: Iterable[dg.DagsterEvent]) -> str:
    """The same for a chat, where only sentences of our own may go.

    The text of any other exception may quote whatever it was given, a token included.
    """
    failure = _first_failure(events)
    if failure is None:
        return _ENDED_WITHOUT_A_FAILING_STEP
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = _cause(failure)
    name = (error.cls_name if error else None) or "fault"
    if error is not None and name in _names_below(ClarityError):
        return error.message.strip().split(f"{name}: ", 1)[-1]
    return f"It came upon a {name} that nobody expected."


def _first_failure(events: Iterable[dg.DagsterEvent]) -> Any:
    return next((event.step_failure_data for event in events if event.is_step_failure), None)


def _cause(failure: Any) -> Any:
    """Dagster wraps what a step raised into an error of its own."""
    return failure.error.cause or failure.error if failure.error else None


def _names_below(error: type[ClarityError]) -> set[str]:
    below = {error.__name__}
    for child in error.__subclasses__():
        below |= _names_below(child)
    return below
