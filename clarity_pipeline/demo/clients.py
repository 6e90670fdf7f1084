"""The agency's clients: one for each fate that a connection to Clarity can meet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from clarity_pipeline.export_api.emulator import EmulatedProject, emulator_token


class Fate(StrEnum):
    """What becomes of a client's last day in the demo."""

    COLLECTED = "collected"
    NOBODY_CAME = "nobody_came"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a fate, no secret
    QUOTA_SPENT = "quota_spent"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class Client:
    """A business of the agency; `story` says in a few words what is the matter with it.

    `days_known` is how many of the week's days it was a client for. `token_lives` is from the
    midnight on which the demo plays, negative for a token that ran out before.
    """

    business_id: str
    name: str
    story: str
    fate: Fate
    project: EmulatedProject
    days_known: int = 7
    token_lives: timedelta = timedelta(days=300)

    def token(self, midnight: datetime) -> str:
        """Its token, for a demo that plays just after this midnight."""
        return emulator_token(self.project.project_id, expires_at=midnight + self.token_lives)


_LUMA: Final = EmulatedProject("lumaskin01", seed=31, sessions_per_day=90, pages=18)

CLIENTS: Final[tuple[Client, ...]] = (
    Client(
        "nordwind-outdoor",
        "Nordwind Outdoor",
        "healthy and busy",
        Fate.COLLECTED,
        EmulatedProject("nordwind24", seed=11, sessions_per_day=420, pages=40),
    ),
    Client(
        "atelier-mira",
        "Atelier Mira",
        "quiet; its token expires soon",
        Fate.COLLECTED,
        EmulatedProject("ateliermra", seed=12, sessions_per_day=14, pages=8),
        token_lives=timedelta(days=5),
    ),
    Client(
        "hotel-birkenhof",
        "Hotel Birkenhof",
        "closed for the season",
        Fate.NOBODY_CAME,
        EmulatedProject("birkenhof7", seed=13, sessions_per_day=0, pages=6, bot_sessions_percent=0),
    ),
    Client(
        "casa-verde",
        "Casa Verde Living",
        "its token expired yesterday",
        Fate.TOKEN_EXPIRED,
        EmulatedProject("casaverde3", seed=14, sessions_per_day=110, pages=20),
        token_lives=timedelta(hours=-12),
    ),
    Client(
        "pixelpress",
        "Pixelpress Prints",
        "another tool used up its calls",
        Fate.QUOTA_SPENT,
        EmulatedProject("pixelprs88", seed=15, sessions_per_day=130, pages=22),
    ),
    Client(
        "luma-skin",
        "Luma Skin",
        "one project with its outlet",
        Fate.COLLECTED,
        _LUMA,
    ),
    Client(
        "luma-outlet",
        "Luma Skin Outlet",
        "one project with the shop",
        Fate.COLLECTED,
        _LUMA,
    ),
    Client(
        "basar-megastore",
        "Basar Megastore",
        "so large that replies are cut",
        Fate.CUT_OFF,
        EmulatedProject("basarmega9", seed=17, sessions_per_day=1_500, pages=400),
        days_known=2,
    ),
)

NEWCOMER: Final = Client(
    "roesterei-nord",
    "Rösterei Nord",
    "connected just now; nothing collected yet",
    Fate.COLLECTED,
    EmulatedProject("roesterei5", seed=18, sessions_per_day=75, pages=16),
)
"""Whom `clarity dev` adds, so that there is something left to collect."""

PROJECTS: Final[tuple[EmulatedProject, ...]] = tuple(
    {client.project.project_id: client.project for client in (*CLIENTS, NEWCOMER)}.values()
)
