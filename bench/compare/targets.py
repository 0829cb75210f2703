"""What the service is to reach against the others and against the limits, and whether this run did.

Compared are medians of rounds that alternated. The ratios travel from machine to machine; the figures do not.
"""

from dataclasses import dataclass

from .sections import DRF, OURS, OURS_AT_12, POCKETBASE


@dataclass
class Target:
    what: str
    # "at least" or "at most"
    side: str
    bound: float
    # None where this run did not measure it.
    value: float | None

    @property
    def wanted(self):
        return f"{self.side} {readable(self.bound)}"

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        met = self.value >= self.bound if self.side == "at least" else self.value <= self.bound
        return "met" if met else "**missed**"


def readable(value):
    if value is None:
        return "–"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def ratio(one, other):
    return one / other if one is not None and other else None


def targets(record):
    few, users, most = record.about["users"]

    def checks(server, users, key="rate"):
        return record.median("token checks", key, server=server, users=users, connections=32)

    def flood(work, server, key="rate"):
        return record.median("floods", key, work=work, server=server)

    def durable(section):
        commits = record.median_value(section, "one-row commits, each flushed", "limit")
        return ratio(record.median(section, server=OURS.name, connections=32), commits)

    def login_share(section, server, cost):
        alone = record.median_value(section, f"bcrypt alone, cost {cost}", "limit")
        return ratio(record.median(section, server=server.name, connections=32), alone)

    at_rest = {server: record.median_value("memory", "at rest, rss", server.name) for server in (OURS, POCKETBASE)}
    start = {server: record.median_value("starts", f"{most:,} users", server.name) for server in (OURS, POCKETBASE)}
    ours, flooded = checks(OURS.name, users), flood("token checks, flooded", OURS_AT_12.name, "p99")
    return [
        Target(
            f"token checks, 32 connections, {users:,} users : bare actix-web JSON",
            "at least",
            0.80,
            ratio(ours, checks("bare actix-web", users)),
        ),
        Target(
            "the same : PocketBase's authenticated record read",
            "at least",
            8,
            ratio(ours, checks(POCKETBASE.name, users)),
        ),
        Target("the same : DRF authtoken under gunicorn", "at least", 40, ratio(ours, checks(DRF.name, users))),
        Target(
            f"token checks with {most:,} users : with {few:,}",
            "at least",
            0.90,
            ratio(checks(OURS.name, most), checks(OURS.name, few)),
        ),
        Target(
            "logins on all cores, cost 10 : the bcrypt crate alone", "at least", 0.95, login_share("logins", OURS, 10)
        ),
        Target(
            "logins on all cores, cost 12 : the bcrypt crate alone",
            "at least",
            0.95,
            login_share("dear logins", OURS_AT_12, 12),
        ),
        Target(
            "token checks with 32 logins in flight at cost 12 : without",
            "at least",
            0.80,
            ratio(flood("token checks, flooded", OURS_AT_12.name), flood("token checks, quiet", OURS_AT_12.name)),
        ),
        Target(
            "their p99 : without", "at most", 5, ratio(flooded, flood("token checks, quiet", OURS_AT_12.name, "p99"))
        ),
        Target(
            "their p99 : PocketBase's under 32 logins at its cost 10",
            "at most",
            1 / 40,
            ratio(flooded, flood("token checks, flooded", POCKETBASE.name, "p99")),
        ),
        Target(
            "logins while token checks saturate the cores : without",
            "at least",
            0.25,
            ratio(flood("logins, flooded", OURS_AT_12.name), flood("logins, alone", OURS_AT_12.name)),
        ),
        Target("durable logouts, 32 connections : one-row FULL commits", "at least", 3, durable("logouts")),
        Target(
            "durable additions to a cellar, 32 connections : one-row FULL commits", "at least", 3, durable("cellar")
        ),
        Target("memory at rest (RSS) : PocketBase's", "at most", 0.5, ratio(at_rest[OURS], at_rest[POCKETBASE])),
        Target(
            f"start to first answer, {most:,} users : PocketBase's",
            "at most",
            0.25,
            ratio(start[OURS], start[POCKETBASE]),
        ),
    ]
