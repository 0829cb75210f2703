"""The run as a page: the ratios first, then the medians, then what each server ran with."""

from .sections import (
    APART,
    BARE_ON_ALL,
    CONTESTANTS,
    DRF,
    DRF_PBKDF2,
    OURS,
    OURS_AT_12,
    POCKETBASE,
    PROBE_EVERY,
    SHARED,
    SMALL,
)
from .servers.limits import Bare, Constant
from .targets import is_bound, readable, targets

COLUMNS = ("rate", "p50", "p99", "server_cores", "generator_cores")
PROBLEMS = ("unexpected", "socket_errors", "timeouts")
TITLES = {
    "token checks": "Token checks",
    "framework": "Token checks against the framework and the load generator",
    "first checks": "The first check of each session",
    "cold": "Token checks with a cold page cache",
    "refusals": "Refusals",
    "logins": "Logins at cost 10",
    "dear logins": "Logins at cost 12",
    "registrations": "Registrations",
    "cellar": "Additions to a list",
    "logouts": "Logouts",
    "floods": "Token checks under a flood of logins",
    "backups": "Token checks beside a backup",
    "limits": "Logins with limits and without",
}


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def distinct(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def load_rows(record, section):
    """A row for each work, number of users, number of connections and server: medians, and the errors added up."""
    rows = record.rows(section)
    for users in distinct(rows, "users"):
        for connections in distinct(rows, "connections"):
            for work in distinct(rows, "work"):
                for server in distinct(rows, "server"):
                    same = {"users": users, "connections": connections, "work": work, "server": server}
                    found = record.rows(section, **same)
                    if not found:
                        continue
                    rates = [row["rate"] for row in found]
                    median = {key: record.median(section, key, **same) for key in COLUMNS}
                    yield same, [
                        number(median["rate"]),
                        f"{number(min(rates))}–{number(max(rates))}",
                        number(median["p50"]),
                        number(median["p99"]),
                        f"{median['server_cores']:.2f}",
                        number(median["server_cores"] / median["rate"] * 1e6 if median["rate"] else None),
                        f"{median['generator_cores']:.2f} of {found[0].get('generator_threads', 1)}",
                        "wrk" if is_bound(record, section, **same) else "",
                        *(sum(row[problem] for row in found) for problem in PROBLEMS),
                    ]


def load_table(record, section):
    head = [
        "users",
        "connections",
        "server",
        "a second",
        "lowest–highest",
        "p50 ms",
        "p99 ms",
        "cores of the server",
        "µs of them each",
        "cores of wrk",
        "bound by",
        "not as expected",
        "socket errors",
        "timeouts",
    ]
    several = len(distinct(record.rows(section), "work")) > 1
    name = (lambda same: f"{same['server']}: {same['work']}") if several else lambda same: same["server"]
    return table(
        head,
        [[f"{same['users']:,}", same["connections"], name(same), *cells] for same, cells in load_rows(record, section)],
    )


def value_table(record, section, unit):
    rows = [row for row in record.values if row["section"] == section and row["server"] != "limit"]
    servers = distinct(rows, "server")
    cells = [
        [what, *(number(record.median_value(section, what, server)) for server in servers)]
        for what in distinct(rows, "what")
    ]
    return table([unit, *servers], cells) if rows else []


def limit_lines(record, section):
    found = [row for row in record.values if row["section"] == section and row["server"] == "limit"]
    return [
        f"{what}: {number(record.median_value(section, what, 'limit'))} a second in the same rounds.\n"
        for what in distinct(found, "what")
    ]


def run_of(about):
    return f"Commit `{about['commit']}`, begun {about['begun']}, took {about.get('minutes', 0):.0f} minutes."


def about_lines(about):
    machine, versions = about["machine"], about["versions"]
    return [
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}, Linux "
        f"{machine['kernel']}, {machine['file_system']}; load average at the start {machine['load_average_at_start']:.2f}. "
        f"{run_of(about)}\n",
        *(f"Measured anew: {', '.join(run['sections'])}. {run_of(run)}\n" for run in about.get("anew", [])),
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n",
    ]


def page(record, plots):
    about = record.about
    lines = ["# Whole servers compared\n", f"Made by `just bench{' --quick' if about['plan'] == 'quick' else ''}`.\n"]
    if about["plan"] == "quick":
        lines += [
            "**A quick run**: fewer users and a round or two of a second or two. It shows that all of it works; "
            "its figures are not to be quoted.\n"
        ]
    lines += about_lines(about)
    lines += [f"Left out: {section}, for {why}.\n" for section, why in about.get("left_out", {}).items()]
    lines += ["## In short\n", "The medians, as docs/performance.md has them.\n", *figures(record)]
    lines += ["## Ratios\n"]
    lines += table(
        ["what", "target", "this run", ""],
        [[target.what, target.wanted, readable(target.value), target.verdict] for target in targets(record)],
    )
    lines += [f"![{title}]({name})\n" for name, title in plots]
    lines += ["## How it is measured\n", HOW]
    for section, title in TITLES.items():
        if record.rows(section):
            lines += [
                f"## {title}\n",
                NOTES[section] + "\n",
                *load_table(record, section),
                *limit_lines(record, section),
            ]
    for section, title, unit in (
        ("starts", "Start to first answer", "milliseconds, median"),
        ("memory", "Memory", "MiB"),
        ("sizes", "Sizes", ""),
        ("backup times", "A backup", "seconds, median"),
        ("cold probes", "Another request meanwhile", "milliseconds, median of the rounds"),
    ):
        found = value_table(record, section, unit)
        if found:
            lines += [f"## {title}\n", NOTES[section] + "\n", *found]
    sizes = {row["server"]: row["bytes"] for row in record.examples if row["section"] == "token checks"}
    if sizes:
        lines += [
            "The body that a token check gets, in bytes: "
            + ", ".join(f"{server} {size}" for server, size in sizes.items())
            + ".\n"
        ]
    lines += ["## What each ran with\n"]
    lines += [f"**{server.name}.** {server.about}\n" for server in [*CONTESTANTS, DRF_PBKDF2, Bare, Constant]]
    return "\n".join(lines).rstrip() + "\n"


def figures(record):
    """The table of docs/performance.md: 32 connections, medians."""
    few, users, most = record.about["users"]

    def rate(section, server, key="rate", **same):
        return record.median(section, key, server=server, connections=32, **same)

    def cell(*values, after="", unit=""):
        """One figure, or one of another; nothing where none was measured."""
        if all(value is None for value in values):
            return ""
        return " of ".join(number(value) for value in values) + unit + (f": {after}" if after else "")

    def row(what, each, limit=""):
        return [what, *(each(server) for server in (OURS.name, POCKETBASE.name, DRF.name)), limit]

    def alone(what, figure, limit=""):
        return [what, figure, "", "", limit]

    def checks(users, **key):
        return lambda server: cell(rate("token checks", server, users=users, **key), unit=" ms" if key else "")

    def framework(work, server, after=""):
        return cell(rate("framework", server, work=work), after=after)

    def each(work, server):
        """Microseconds of processor time for one answer."""
        cores, pace = (rate("framework", server, key, work=work) for key in ("server_cores", "rate"))
        return cell(cores / pace * 1e6 if pace else None, unit=" µs")

    def at_12(server):
        return OURS_AT_12.name if server == OURS.name else server

    def flood(server, what="token checks", before="quiet", after=""):
        works = (f"{what}, flooded", f"{what}, {before}")
        return cell(*(rate("floods", at_12(server), work=work) for work in works), after=after)

    def flood_p99(server, after=""):
        return cell(rate("floods", at_12(server), "p99", work="token checks, flooded"), after=after, unit=" ms")

    def limit(section, what, after):
        return cell(record.median_value(section, what, "limit"), after=after)

    def value(section, what, unit):
        return lambda server: cell(record.median_value(section, what, server), unit=unit)

    def cold(work):
        found = [record.median_value("cold probes", f"{what}, {work}", OURS.name) for what in ("p50", "p99", "max")]
        return "" if None in found else ", ".join(map(number, found)) + " ms"

    commits = "one-row commits, each flushed"
    rows = [
        row(f"token checks, {few:,} users", checks(few)),
        row(f"token checks, {users:,} users", checks(users)),
        row("their 99th percentile", checks(users, key="p99")),
        row(f"token checks, {most:,} users", checks(most)),
        alone('the same with `[database] cache = "64 MiB"`', cell(rate("token checks", SMALL.name, users=most))),
        alone(
            f"token checks, {users:,} users, {APART}",
            framework(APART, OURS.name),
            framework(APART, Bare.name, "bare actix-web with as many workers"),
        ),
        alone(
            f"the same, {SHARED}",
            framework(SHARED, OURS.name),
            framework(SHARED, Bare.name, "bare actix-web with as many workers"),
        ),
        alone("", "", framework(SHARED, BARE_ON_ALL, BARE_ON_ALL)),
        alone("the server's processor time for one", each(SHARED, OURS.name), each(SHARED, Bare.name)),
        alone(
            f"each session's first check, {most:,} users",
            cell(rate("first checks", OURS.name)),
            cell(rate("first checks", Bare.name), after="bare actix-web with as many workers"),
        ),
        row(
            "token checks while 32 clients log in",
            flood,
            flood(Bare.name, after="bare actix-web beside as many hashing threads"),
        ),
        row("their 99th percentile", flood_p99, flood_p99(Bare.name, "the same")),
        row("the logins meanwhile", lambda server: flood(server, "logins", "alone")),
        alone("`/healthz` beside token checks, warm page cache: p50, p99, maximum", cold("with a warm page cache")),
        alone(f"the same with {most:,} users and a cold one", cold("with a cold page cache")),
        row(
            "additions to a cellar, durable here alone",
            lambda server: cell(rate("cellar", server)),
            limit("cellar", commits, "one-row commits"),
        ),
        row(
            "logouts, durable here alone",
            lambda server: "it has none" if server == POCKETBASE.name else cell(rate("logouts", server)),
            limit("logouts", commits, "one-row commits"),
        ),
        row(
            "logins at cost 10",
            lambda server: cell(rate("logins", server)),
            limit("logins", "bcrypt alone, cost 10", "bcrypt alone"),
        ),
        row("memory when idle", value("memory", "idle, rss", " MiB")),
        row(f"start to first answer with {most:,} users", value("starts", f"{most:,} users", " ms")),
    ]
    return table(["32 connections, a second", OURS.name, POCKETBASE.name, DRF.name, "the limit"], rows)


HOW = f"""\
All servers of a section are up, on the loopback address, with the same number of users, and are asked one after the
other in rounds; the tables have the medians of the rounds, `latest.json` has every round. The load generator is wrk with
one thread on the same cores, or, where it says so, with a thread for each of the cores that are its own; it waits for an
answer before it asks again on the same connection. Before each section
every server answers one request by hand, and the run stops where the status is not the one that is due; then comes a
warm-up that is not counted: five seconds (--quick: two) of token checks before those, a second before other work.
{OURS.name} alone caches sessions, as many as its cache holds: by default an eighth of the
memory, from 64 MiB to 1 GiB. When it has run for a while it has those that are in use. So before the token
checks (but not where its cache is 64 MiB), the additions, the logouts and the floods it is asked for nearly each session
once; what that costs is a section of its own. (Before the logouts the session that was ended by hand
is among them, and answers 401.) After each load that counts the run waits until the server has nothing left to do; in the
floods, after each that holds logins. A server with an unbounded queue goes on hashing for clients that have gone; after five
seconds of that it is restarted.

"A second" counts the answers that are as expected. An answer of 400 or more counts as not as expected (as expected, in
the section of refusals); none of the servers redirects. Connections that fail and answers that take longer than 60
seconds are counted beside them. Nothing is left out. "Bound by wrk" is a row whose server might be faster than it looks:
the load generator was busy for 95 % of the time, or the server came within 5 % of one that does nothing. "µs of them
each" is what an answer takes of the server's processor time, which the load generator does not bound (in the floods it is
all that the server did meanwhile, for each answer). With 256 connections, {OURS.name} refuses logins beyond its queue
of 64 at once with 503 and `Retry-After`, which wrk ignores; the others let them wait.

Users are `user0` and so on with one password and five items in a list. Their rows are inserted into each server's own
file before it starts. A token check asks with the token of a random user.
"""

NOTES = {
    "token checks": "`GET /api/user`; PocketBase: the read of one's own record. authtokens also stores, once a minute for "
    "each session, that it was in use. With the most users nearly all of its sessions fit its default cache on this machine; "
    "with a cache of 64 MiB, one in eleven does.",
    "framework": f"The same checks by {OURS.name}, by the bare framework and by a server that does nothing, all with the "
    f"service's default number of workers, half of the cores: once with the cores shared out, the workers' half to the server "
    f"and the rest to wrk ({APART}), and once not ({SHARED}), where the framework and the ceiling also run with one for each "
    "core. Where the ceiling is not above a row, wrk is what was measured there. On a core of its own a server that is faster "
    "than wrk falls asleep between two requests; to wake it takes both of them processor time, on a virtual machine more than "
    "the answer itself, so that there a faster server may answer less.",
    "first checks": "Of sessions that nobody has asked for since the server was started, in no order: each is read from the "
    "file, which is in memory. Each round has a new process and a second that is not counted.",
    "cold": "All of the file is dropped from memory (`echo 3 > /proc/sys/vm/drop_caches`) when the server has started, and "
    "then it is asked for random sessions; and the same with the file in memory. What the machine below a virtual one has in "
    "its own memory stays there.",
    "cold probes": f"In the section of the cold page cache, `/healthz` is asked every {PROBE_EVERY * 1000:.0f} ms on a "
    "connection of its own, and each answer is timed from when it was due.",
    "refusals": "A logout with a token that nobody has: 401.",
    "logins": f"Of a random one of a thousand users, at bcrypt's cost 10, which is PocketBase's default, for all but "
    f"{DRF_PBKDF2.name}. {OURS.name} and knox store a new session, DRF authtoken answers the one token there is, "
    f"PocketBase stores nothing.",
    "dear logins": f"{OURS.name}'s own default cost.",
    "registrations": "A new account with a token; PocketBase answers no token.",
    "cellar": "One more item for a random user. PocketBase: an update of the whole list. Django: a column of JSON, read and "
    "written in one transaction. Durable against a power cut at authtokens alone.",
    "logouts": "The end of a session, another one each time. PocketBase has no equivalent.",
    "floods": f"32 connections check tokens while 32 others log in without pause, both for the same seconds; and each "
    f"alone. {OURS_AT_12.name}; {POCKETBASE.name} and {DRF.name} have 10, a quarter of the work for a hash. {Bare.name} gets no "
    f"logins: as many hashing threads as the service's hash at cost 12 in its process without pause.",
    "backups": "32 connections check tokens of the most users while the command makes a backup, checks it and flushes it; and "
    "without.",
    "backup times": "From the start of the command to its end, beside the token checks.",
    "limits": "At a cost so low that the cost of the limits could be measured. They are on, and so generous that they stop nobody; and off.",
    "starts": "From the start of the process to the first byte of an answer to a token check; the file is in memory already.",
    "memory": "Resident memory of all of a server's processes (rss), and the same with what they share counted once (pss). "
    "Idle: three seconds after the first answer.",
    "sizes": "Installed: the binary, in MiB; for Django its packages without Python. On disk a user: in bytes, with a session "
    "where sessions are stored.",
}
