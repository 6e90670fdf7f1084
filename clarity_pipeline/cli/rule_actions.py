"""`clarity rules actions|approve|reject|send|pause-all`: what rules do, and who lets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, print_json, remark, say, table
from clarity_pipeline.cli.rules import Note, editor_of
from clarity_pipeline.cli.session import command_line_actor, open_session, utc_now
from clarity_pipeline.domain.errors import ClarityError, InputError

if TYPE_CHECKING:
    from clarity_pipeline.domain.rules.delivery import OutboxAction
    from clarity_pipeline.store.rules import Switch

SHOWN: Final = 50

_TONES: Final = {
    "waiting": "warn",
    "done": "good",
    "failed": "bad",
    "expired": "quiet",
    "rejected": "quiet",
    "skipped": "quiet",
}

ActionIds = Annotated[
    list[int], typer.Argument(metavar="ID...", help="Actions, as `rules actions` shows them.")
]


def register(rules_app: typer.Typer) -> None:
    for command in (actions, approve, reject, send):
        rules_app.command()(command)
    rules_app.command("pause-all")(pause_all)
    rules_app.command("unpause-all")(unpause_all)


def actions(
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="waiting, pending, done, skipped, failed, rejected or expired.",
        ),
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="NAME", help="Only of this rule.")
    ] = None,
    business: Annotated[
        str | None, typer.Option("--business", metavar="ID", help="Only about this business.")
    ] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="ID", help="Only on this entity.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = SHOWN,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what rules wanted done, newest first, and what became of it."""
    from clarity_pipeline.store.rule_actions import list_actions
    from clarity_pipeline.store.rules import find_rule, get_switch, list_rules

    with open_session() as session:
        database = session.database
        found = list_actions(
            database,
            rule_id=None if rule is None else find_rule(database, rule).id,
            business_id=business,
            entity_id=entity,
            status=None if status is None else _parse_status(status),
            limit=limit,
        )
        switch = get_switch(database)
        names = {each.id: each.rule.name for each in list_rules(database, with_archived=True)}
    if as_json:
        print_json(
            {"is_paused": switch.is_paused, "actions": [_document(each, names) for each in found]}
        )
        return
    if not found:
        say("There is no such action.")
    else:
        _print(found, names)
    if switch.is_paused:
        remark(f"{_paused_by(switch)}: nothing is sent until `clarity rules unpause-all`.")


def approve(action_ids: ActionIds, *, as_json: AsJson = False) -> None:
    """Let actions be sent that wait for somebody to agree."""
    from clarity_pipeline.operations.rule_actions import approve_action

    _judge(action_ids, approve_action, word="approved", as_json=as_json)


def reject(action_ids: ActionIds, *, as_json: AsJson = False) -> None:
    """End actions for good that wait for somebody to agree."""
    from clarity_pipeline.operations.rule_actions import reject_action

    _judge(action_ids, reject_action, word="rejected", as_json=as_json)


def send(*, as_json: AsJson = False) -> None:
    """Send what is due, as the sensor does."""
    from dataclasses import asdict

    from clarity_pipeline.operations.rule_actions import deliver_due

    with open_session() as session:
        delivered = deliver_due(
            session.database,
            settings=session.settings,
            open_vault=lambda: session.vault,
            now=utc_now(),
        )
    if as_json:
        print_json(asdict(delivered))
    else:
        say(
            f"{delivered.done} done, {delivered.skipped} skipped, {delivered.failed} failed, "
            f"{delivered.postponed} to be tried again, {delivered.expired} expired."
        )
    if delivered.failed:
        raise typer.Exit(1)


def pause_all(note: Note = None, *, as_json: AsJson = False) -> None:
    """Let no rule send anything. What they decide is kept, and waits until its day is over."""
    _switch(is_paused=True, note=note, as_json=as_json)


def unpause_all(note: Note = None, *, as_json: AsJson = False) -> None:
    """Let the rules go on, with what has waited as well."""
    _switch(is_paused=False, note=note, as_json=as_json)


def _switch(*, is_paused: bool, note: str | None, as_json: bool) -> None:
    from clarity_pipeline.operations import rules

    with open_session() as session:
        changed = rules.set_all_paused(
            session.database, is_paused=is_paused, by=editor_of(session), now=utc_now(), note=note
        )
    if as_json:
        print_json({"is_paused": is_paused, "changed": changed})
        return
    state = "No rule sends anything" if is_paused else "Rules send what they decide"
    say(f"{state}{'' if changed else ', as before'}.")


def _judge(
    action_ids: list[int],
    judge: Callable[..., OutboxAction],
    *,
    word: str,
    as_json: bool,
) -> None:
    """Each by itself: one that is judged already must not keep the others waiting."""
    judged: list[int] = []
    refused: dict[int, ClarityError] = {}
    with open_session() as session:
        for action_id in dict.fromkeys(action_ids):
            try:
                judge(session.database, action_id, judged_by=command_line_actor(), now=utc_now())
            except InputError as error:
                refused[action_id] = error
            else:
                judged.append(action_id)
    if as_json:
        print_json(
            {
                word: judged,
                "refused": [
                    {"id": action_id, "code": error.code, "message": str(error)}
                    for action_id, error in refused.items()
                ],
            }
        )
    else:
        for action_id in judged:
            say(f"Action {action_id} is {word}.")
        for error in refused.values():
            remark(str(error))
    if refused:
        raise typer.Exit(InputError.exit_code)


def _parse_status(text: str) -> Any:
    from clarity_pipeline.domain.rules.actions import ActionStatus

    try:
        return ActionStatus(text)
    except ValueError:
        every = ", ".join(status.value for status in ActionStatus)
        raise InputError(f"An action is never {text!r}; its status is one of {every}.") from None


def _print(found: list[OutboxAction], names: dict[int, str]) -> None:
    columns = ("id", "made", "rule", "what", "about", "status", "why")
    listing = table("Actions of rules, newest first", columns)
    for each in found:
        listing.add_row(
            cell(each.id),
            cell(each.created_at),
            cell(names.get(each.rule_id)),
            cell(_what(each)),
            cell(_about(each)),
            cell(each.status.value, _TONES.get(each.status.value, "")),
            cell(each.reason or each.last_error),
        )
    console().print(listing)


def _what(action: OutboxAction) -> str:
    words = action.kind.value.replace("_", " ")
    if "target" in action.detail:
        before, units = action.detail["before"]["daily_budget"], action.detail["before"]["units"]
        return f"{words} from {before / units:g} to {action.detail['target'] / units:g}"
    if "budget_wanted" in action.detail:
        known, wanted = action.detail["budget_known"], action.detail["budget_wanted"]
        return f"{words} from {known:g} to {wanted:g}"
    return words


def _about(action: OutboxAction) -> str:
    if action.entity_id is not None:
        return action.entity_id
    count = len(action.positions)
    of = f" of {action.business_id}" if action.business_id else ""
    return f"{count} {'entity' if count == 1 else 'entities'}{of}"


def _paused_by(switch: Switch) -> str:
    who = f" by {switch.changed_by}" if switch.changed_by else ""
    return f"All rules are paused{who}"


def _document(action: OutboxAction, names: dict[int, str]) -> dict[str, object]:
    """Without the action's own document: the address of a webhook is often a secret."""
    return {
        "id": action.id,
        "rule": names.get(action.rule_id),
        "version": action.version,
        "business_id": action.business_id,
        "date": action.day,
        "kind": action.kind.value,
        "entity_id": action.entity_id,
        "account_id": action.account_id,
        "decisions": [f"{action.evaluation_id}-{position}" for position in action.positions],
        "status": action.status.value,
        "reason": action.reason,
        "budget_before": action.detail.get("budget_known"),
        "budget_after": action.detail.get("budget_wanted"),
        "created_at": action.created_at,
        "expires_at": action.expires_at,
        "judged_by": action.judged_by,
        "judged_at": action.judged_at,
        "attempts": action.attempts,
        "next_attempt_at": action.next_attempt_at,
        "done_at": action.done_at,
        "last_error": action.last_error,
    }
