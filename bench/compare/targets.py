"""The targets against the others and against the limits, and whether this run met them.

Compared are medians of rounds that alternated. The ratios travel from machine to machine; the figures do not.
"""

from dataclasses import dataclass

from .sections import APART, BARE_ON_ALL, CEILING_ON_ALL, DRF, OURS, OURS_AT_12, POCKETBASE, SHARED
from .servers.limits import Bare, Constant


@dataclass
class Target:
    what: str
    # "at least" or "at most"
    side: str
    bound: float
    # None where this run did not measure it.
    value: float | None
    # Whether the other side of the ratio was bound by the load generator.
    doubtful: bool = False

    @property
    def wanted(self):
        return f"{self.side} {readable(self.bound)}"

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        met = self.value >= self.bound if self.side == "at least" else self.value <= self.bound
        return ("bound by wrk" if self.doubtful else "met") if met else "**missed**"


def readable(value):
    if value is None:
        return "–"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def ratio(one, other):
    return one / other if one is not None and other else None


def is_bound(record, section, **same):
    """Whether the load generator had nothing left to give: its threads were busy for 95 % of the time, or the server came
    within 5 % of what a server that does nothing comes to. What is bound so might be faster than it looks."""
    rows = record.rows(section, **same)
    if not rows:
        return False
    if record.median(section, "generator_cores", **same) >= 0.95 * rows[0].get("generator_threads", 1):
        return True
    others = {key: value for key, value in same.items() if key != "server"}
    ceilings = [record.median(section, server=server, **others) for server in (Constant.name, CEILING_ON_ALL)]
    fastest = max((rate for rate in ceilings if rate), default=None)
    return fastest is not None and record.median(section, **same) >= 0.95 * fastest


def targets(record):
    few, users, most = record.about["users"]

    def checks(server, users, key="rate"):
        return record.median("token checks", key, server=server, users=users, connections=32)

    def framework(work, *servers):
        rates = [record.median("framework", server=server, work=work, connections=32) for server in servers]
        return max((rate for rate in rates if rate is not None), default=None)

    def first(server):
        return record.median("first checks", server=server, connections=32)

    def flood(work, server, key="rate"):
        return record.median("floods", key, work=work, server=server)

    def durable(section):
        commits = record.median_value(section, "one-row commits, each flushed", "limit")
        return ratio(record.median(section, server=OURS.name, connections=32), commits)

    def login_share(section, server, cost):
        alone = record.median_value(section, f"bcrypt alone, cost {cost}", "limit")
        return ratio(record.median(section, server=server.name, connections=32), alone)

    idle = {server: record.median_value("memory", "idle, rss", server.name) for server in (OURS, POCKETBASE)}
    start = {server: record.median_value("starts", f"{most:,} users", server.name) for server in (OURS, POCKETBASE)}
    ours, flooded = checks(OURS.name, users), flood("token checks, flooded", OURS_AT_12.name, "p99")
    return [
        *(
            Target(
                f"token checks, 32 connections, {users:,} users : bare actix-web with as many workers, {work}",
                "at least",
                0.90,
                ratio(framework(work, OURS.name), framework(work, Bare.name)),
                is_bound(record, "framework", server=Bare.name, work=work, connections=32),
            )
            for work in (APART, SHARED)
        ),
        Target(
            f"the same : {BARE_ON_ALL}, {SHARED}",
            "at least",
            0.80,
            ratio(framework(SHARED, OURS.name), framework(SHARED, BARE_ON_ALL)),
            is_bound(record, "framework", server=BARE_ON_ALL, work=SHARED, connections=32),
        ),
        *(
            Target(
                f"the load generator's ceiling : the fastest that it is to bound, {work}",
                "at least",
                1,
                ratio(
                    framework(work, Constant.name, CEILING_ON_ALL),
                    framework(work, OURS.name, Bare.name, BARE_ON_ALL),
                ),
            )
            for work in (APART, SHARED)
        ),
        Target(
            f"first check of each session, {most:,} users : bare actix-web with as many workers",
            "at least",
            0.5,
            ratio(first(OURS.name), first(Bare.name)),
        ),
        Target(
            f"token checks, 32 connections, {users:,} users : PocketBase's authenticated record read",
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
            "their p99 : bare actix-web's beside as many hashing threads at cost 12",
            "at most",
            1.5,
            ratio(flooded, flood("token checks, flooded", Bare.name, "p99")),
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
        Target("memory when idle (RSS) : PocketBase's", "at most", 0.5, ratio(idle[OURS], idle[POCKETBASE])),
        Target(
            f"start to first answer, {most:,} users : PocketBase's",
            "at most",
            0.25,
            ratio(start[OURS], start[POCKETBASE]),
        ),
    ]
