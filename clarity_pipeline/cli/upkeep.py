"""`clarity init` and `clarity keys`: what is set up once, and keys that are renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import print_json, say
from clarity_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from clarity_pipeline.orchestration.launch import DagsterHome

keys_app = typer.Typer(name="keys", help="Keys that tokens are encrypted with.")


def register(app: typer.Typer) -> None:
    app.command()(init)
    app.add_typer(keys_app, no_args_is_help=True)


def init(*, as_json: AsJson = False) -> None:
    """Create or migrate the database, make the key file and the Dagster home.

    Harmless to repeat: what is there already stays as it is.
    """
    from clarity_pipeline.orchestration.launch import prepare_dagster_home
    from clarity_pipeline.settings import load_settings
    from clarity_pipeline.store.vault import create_key_file, open_vault

    settings = load_settings()
    has_own_keys = bool(settings.secret_keys and settings.secret_keys.get_secret_value().strip())
    key_file = settings.secret_key_file.resolve()
    made_key = not has_own_keys and create_key_file(key_file)
    open_vault(settings)
    with open_session() as session:
        database = session.database.dialect_name
    dagster_home = prepare_dagster_home(settings)
    if as_json:
        print_json(
            {
                "database": database,
                "secret_key_file": None if has_own_keys else str(key_file),
                "secret_key_made": made_key,
                "dagster_home": str(dagster_home.directory),
                "dagster_storage": "postgresql" if settings.dagster_on_postgresql else "sqlite",
                "dagster_settings": dagster_home.state.value,
            }
        )
        return
    where = settings.home.resolve() / "clarity.db" if settings.database_url is None else database
    say(f"Database     {where} is up to date.")
    if has_own_keys:
        say("Secret keys  come from CLARITY_SECRET_KEYS.")
    else:
        what = "was made; keep a copy of it" if made_key else "was there already"
        say(f"Secret key   {key_file} {what}.")
    say(_about(dagster_home))
    say("Next: clarity business add ID --name NAME")


def _about(home: DagsterHome) -> str:
    source = home.wanted.name
    match home.state.value:
        case "made":
            return f"Dagster home {home.directory} was made with the settings of {source}."
        case "up_to_date":
            return f"Dagster home {home.directory} has the settings of {source}."
        case _:
            return (
                f"Dagster home {home.directory} keeps its own dagster.yaml, which is not "
                f"{home.wanted}; compare the two, or delete it and run `clarity init` again."
            )


@keys_app.command()
def generate() -> None:
    """Print a new key, to be put in front of CLARITY_SECRET_KEYS or of the key file's line."""
    from cryptography.fernet import Fernet

    say(Fernet.generate_key().decode())


@keys_app.command()
def rotate(*, as_json: AsJson = False) -> None:
    """Bring every stored token under the newest key; older keys can be dropped afterwards."""
    from clarity_pipeline.store.key_rotation import reencrypt_tokens

    with open_session() as session:
        count = reencrypt_tokens(session.database, session.vault)
    if as_json:
        print_json({"tokens_reencrypted": count})
    else:
        say(f"{count} tokens are now encrypted with the newest key; older keys can be dropped.")
