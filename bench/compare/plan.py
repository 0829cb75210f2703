"""How much is measured, and for how long."""

from dataclasses import dataclass

# For each number of connections the rounds and the seconds of one load.
Rounds = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Plan:
    """The whole run. The middle number of users is the one at which everything but the token checks is measured."""

    name: str
    users: tuple[int, int, int]
    token_checks: Rounds
    framework: Rounds
    first_checks: Rounds
    cold: Rounds
    refusals: Rounds
    logins: Rounds
    dear_logins: Rounds
    registrations: Rounds
    cellar: Rounds
    logouts: Rounds
    floods: Rounds
    backups: Rounds
    limits: Rounds
    # Seconds of token checks before they count: what is asked for often is cached by then.
    warm_up: int
    starts: int
    # Sessions a user for the logouts, each of which uses one up.
    sessions: int


FULL = Plan(
    name="full",
    users=(1_000, 100_000, 1_000_000),
    token_checks={1: (2, 3), 32: (5, 3), 256: (2, 3)},
    framework={1: (2, 3), 32: (7, 3), 256: (2, 3)},
    first_checks={32: (5, 3)},
    cold={32: (3, 10)},
    refusals={32: (4, 3)},
    # Who hashes for 256 clients at once has nothing to show for the first ten seconds: a shorter load would be unfair.
    logins={1: (2, 4), 32: (3, 8), 256: (1, 20)},
    dear_logins={32: (3, 12)},
    registrations={1: (1, 4), 32: (2, 8), 256: (1, 20)},
    cellar={1: (2, 3), 32: (5, 3), 256: (2, 3)},
    logouts={1: (2, 2), 32: (5, 2), 256: (2, 2)},
    floods={32: (3, 8)},
    backups={32: (3, 20)},
    limits={32: (5, 3)},
    warm_up=5,
    starts=10,
    sessions=5,
)

QUICK = Plan(
    name="quick",
    users=(1_000, 10_000, 100_000),
    token_checks={1: (1, 1), 32: (2, 1), 256: (1, 1)},
    framework={1: (1, 1), 32: (2, 1), 256: (1, 1)},
    first_checks={32: (2, 1)},
    cold={32: (1, 2)},
    refusals={32: (1, 1)},
    logins={1: (1, 1), 32: (1, 3), 256: (1, 4)},
    dear_logins={32: (1, 4)},
    registrations={1: (1, 1), 32: (1, 3), 256: (1, 4)},
    cellar={1: (1, 1), 32: (2, 1), 256: (1, 1)},
    logouts={1: (1, 1), 32: (2, 1), 256: (1, 1)},
    floods={32: (1, 4)},
    backups={32: (1, 4)},
    limits={32: (2, 1)},
    warm_up=2,
    starts=3,
    sessions=10,
)
