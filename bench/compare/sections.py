"""The work, a function a section. Loads alternate between the servers round by round, so that what the machine does
besides falls on all of them alike; a server that is not being asked rests."""

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .load import Load, Request, ask, load
from .places import RELEASE, VENV, WORK
from .process import Process
from .servers import Server
from .servers.authtokens import Authtokens
from .servers.django import Django
from .servers.limits import Bare, Constant, commits_a_second, hashes_a_second
from .servers.pocketbase import PocketBase

OURS = Authtokens(10)
OURS_AT_12 = Authtokens(12, name="authtokens at cost 12")
SMALL = Authtokens(10, name="authtokens, cache 64 MiB", AUTHTOKENS__DATABASE__CACHE="64 MiB")
SILENT = Authtokens(10, name="authtokens without its log", RUST_LOG="off")
POCKETBASE = PocketBase()
DRF = Django("DRF authtoken", "authtoken", "bcrypt")
KNOX = Django("DRF knox", "knox", "bcrypt")
DRF_PBKDF2 = Django("DRF authtoken, PBKDF2", "authtoken", "pbkdf2")
CONTESTANTS = [OURS, POCKETBASE, DRF, KNOX]

# The packages that a Django of this kind is installed with, beyond Python itself.
DJANGO_PACKAGES = "Django djangorestframework gunicorn asgiref sqlparse packaging bcrypt".split()


@dataclass
class Contender:
    """A server with its folder, and the request that it is measured with."""

    server: Server
    folder: Path
    users: int
    request: Request
    process: Process | None = None

    def load(self, connections, seconds):
        result = load(self.process, self.request, connections, seconds)
        # Who queues without bound goes on hashing for clients that have gone, and the next server must not pay for it.
        if not self.process.rests(within=5):
            self.process.kill()
            self.process = self.server.start(self.folder)
        return result


@contextmanager
def running(record, section, contenders):
    """Starts the servers and asks each once by hand: who does not answer as it must is not measured."""
    with ExitStack() as stack:
        for contender in contenders:
            server, request = contender.server, contender.request
            contender.process = server.start(contender.folder)
            stack.callback(lambda contender=contender: contender.process.stop())
            status, body = ask(contender.process.port, request)
            record.add_example(section, server.name, status, body)
            if (status >= 400) != request.refusal:
                raise RuntimeError(f"{section}: {server.name} answers {status}: {body[:300]!r}")
            if request.once:
                request.lines.used += 1
        yield


def rounds(record, section, contenders, plan, between=None):
    """All the loads of a section. `between` is called in each round of 32 connections, for a limit."""
    for connections, (count, seconds) in plan.items():
        for number in range(count):
            for contender in contenders:
                keep(record, section, section, contender, connections, number, contender.load(connections, seconds))
            if between and connections == 32:
                between(number, seconds)


def keep(record, section, work, contender, connections, number, result):
    record.add_load(section, work, contender.server.name, contender.users, connections, number, result)
    print(
        f"{work}: {contender.server.name}, {contender.users:,} users, {connections} connections: "
        f"{result['rate']:,.1f}/s, p99 {result['p99']:.2f} ms, unexpected {result['unexpected']}, "
        f"socket errors {result['socket_errors']}, timeouts {result['timeouts']}",
        file=sys.stderr,
        flush=True,
    )


def warm_up(record, section, contenders, seconds=1):
    for contender in contenders:
        keep(record, section, f"{section}, warm-up", contender, 32, -1, contender.load(32, seconds))


def ask_for_each(record, contender, plan, sessions=1):
    """Asks for the sessions of every user once, but for a few that were on their way between two loads: what a service
    that remembers them comes to by itself when it has run for a while. Where there is one a user, the loads that meet
    none of them twice are a section of their own."""
    request = replace(contender.server.check(contender.folder), once=True)
    wanted, number = contender.users * sessions, 0
    while request.lines.used < wanted:
        result = load(contender.process, request, 32, plan.warm_up)
        counts = sessions == 1 and request.lines.used <= wanted
        keep(record, "first checks", "first checks", contender, 32, number if counts else -1, result)
        number += 1


def each(section, record, contenders, plan, between=None):
    """A section of the usual form."""
    with running(record, section, contenders):
        warm_up(record, section, contenders)
        rounds(record, section, contenders, plan, between)


def each_remembered(section, record, contenders, plan, loads, sessions=1):
    """The same with sessions that the service has seen before, against one-row commits."""
    with running(record, section, contenders):
        ask_for_each(record, contenders[0], plan, sessions)
        warm_up(record, section, contenders)
        rounds(record, section, contenders, loads, commits(record, section))


def sizes(record, plan):
    """What there is to install, and what a user takes on the disk."""
    program = (
        "import sys, importlib.metadata as m\n"
        "found = [d for d in m.distributions() if d.name.lower() in {name.lower() for name in sys.argv[1:]}]\n"
        "files = [f for d in found for f in d.files or []]\n"
        "print(sum(f.locate().stat().st_size for f in files if f.locate().exists()))"
    )
    command = [VENV / "bin" / "python", "-c", program, *DJANGO_PACKAGES]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    installed = {
        OURS.name: (RELEASE / "authtokens").stat().st_size,
        POCKETBASE.name: (VENV / "bin" / "pocketbase").stat().st_size,
        DRF.name: int(said.stdout),
    }
    for name, size in installed.items():
        record.add_value("sizes", "installed", name, size / 2**20, "MiB")
    most = plan.users[-1]
    for server in CONTESTANTS:
        took = server.disk_bytes(server.dataset(most)) - server.disk_bytes(server.dataset(0))
        record.add_value("sizes", "on disk a user", server.name, took / most, "bytes")


def starts(record, plan):
    """From the start of the process to the first answer to a token check."""
    for users in (0, plan.users[-1]):
        for number in range(plan.starts):
            for server in CONTESTANTS[:3]:
                folder = server.dataset(users)
                request = server.check(folder).example()
                with server.launch(folder) as process:
                    took = process.first_answer(request)
                record.add_value("starts", f"{users:,} users", server.name, took, "ms", number)


def memory(record, plan):
    """At rest: a while after the first answer, when nobody has asked for anything else."""
    for server in CONTESTANTS:
        with server.start(server.dataset(plan.users[1])) as process:
            time.sleep(3)
            record_memory(record, "at rest", server, process)


def record_memory(record, when, server, process):
    for kind, mib in process.memory().items():
        record.add_value("memory", f"{when}, {kind}", server.name, mib, "MiB")


def refusals(record, plan):
    """A token that nobody has: the question that costs least, against the bare framework's 401."""
    tokens = WORK / "unknown-tokens"
    WORK.mkdir(parents=True, exist_ok=True)
    tokens.write_text("".join(f"{number:040x}\n" for number in range(100_000)))
    users = plan.users[1]
    bare = Bare(OURS.dataset(users))
    contenders = [
        Contender(OURS, OURS.dataset(users), users, OURS.refusal(tokens)),
        Contender(SILENT, SILENT.dataset(users), users, SILENT.refusal(tokens)),
        Contender(bare, WORK, users, bare.refusal(tokens)),
    ]
    each("refusals", record, contenders, plan.refusals)


def token_checks(record, plan):
    """Who is behind this token, a random one of N? All N take their turns together, for they are compared too. With the
    most users, the service runs a second time with the cache that a machine of half a gigabyte has."""
    contenders = []
    for users in plan.users:
        for server in CONTESTANTS:
            folder = server.dataset(users)
            contenders.append(Contender(server, folder, users, server.check(folder)))
    users = plan.users[1]
    tokens = OURS.dataset(users)
    for limit in (Bare(tokens), Constant(tokens)):
        contenders.append(Contender(limit, WORK, users, limit.check(tokens)))
    most = plan.users[-1]
    folder = SMALL.dataset(most)
    contenders.append(Contender(SMALL, folder, most, SMALL.check(folder)))
    with running(record, "token checks", contenders):
        for contender in contenders:
            if contender.server is OURS:
                ask_for_each(record, contender, plan)
        warm_up(record, "token checks", contenders, plan.warm_up)
        rounds(record, "token checks", contenders, plan.token_checks)
        for contender in contenders:
            if contender.users == users and contender.server in CONTESTANTS:
                record_memory(record, "after the token checks", contender.server, contender.process)


def logins(record, plan):
    """A login at the cost that all have, 10, and the bcrypt crate alone at the same cost."""
    users = plan.users[1]
    servers = [OURS, POCKETBASE, DRF, KNOX, DRF_PBKDF2]
    contenders = [Contender(server, server.dataset(users), users, server.login()) for server in servers]
    each("logins", record, contenders, plan.logins, hashes(record, "logins", 10))


def dear_logins(record, plan):
    """The service's own default cost, 12, against the bcrypt crate alone."""
    users = plan.users[1]
    contenders = [Contender(OURS_AT_12, OURS_AT_12.dataset(users), users, OURS_AT_12.login())]
    with running(record, "dear logins", contenders):
        rounds(record, "dear logins", contenders, plan.dear_logins, hashes(record, "dear logins", 12))


def hashes(record, section, cost):
    def between(number, seconds):
        figure = hashes_a_second(cost, seconds)
        record.add_value(section, f"bcrypt alone, cost {cost}", "limit", figure, "a second", number)

    return between


def registrations(record, plan):
    """A new account under a new name."""
    users = plan.users[1]
    servers = [*CONTESTANTS, DRF_PBKDF2]
    contenders = [Contender(server, server.dataset(users), users, server.register()) for server in servers]
    each("registrations", record, contenders, plan.registrations)


def logouts(record, plan):
    """The end of a session. PocketBase has none: its tokens live until they expire."""
    users = plan.users[1]
    contenders = []
    for server in (OURS, DRF, KNOX):
        folder = server.dataset(users, plan.sessions, "logouts")
        contenders.append(Contender(server, folder, users, server.logout(folder)))
    each_remembered("logouts", record, contenders, plan, plan.logouts, plan.sessions)


def cellar(record, plan):
    """One more item for the list of a random user."""
    users = plan.users[1]
    contenders = []
    for server in CONTESTANTS:
        folder = server.dataset(users)
        contenders.append(Contender(server, folder, users, server.add_item(folder)))
    each_remembered("cellar", record, contenders, plan, plan.cellar)


def commits(record, section):
    def between(number, seconds):
        figure = commits_a_second(seconds)
        record.add_value(section, "one-row commits, each flushed", "limit", figure, "a second", number)

    return between


def floods(record, plan):
    """Token checks of 32 connections while 32 others log in without pause, and each of the two alone."""
    users, (count, seconds) = plan.users[1], plan.floods[32]
    for server in (OURS_AT_12, POCKETBASE, DRF):
        folder = server.dataset(users)
        check = Contender(server, folder, users, server.check(folder))
        with running(record, "floods", [check]):
            if server is OURS_AT_12:
                ask_for_each(record, check, plan)
            warm_up(record, "floods", [check], plan.warm_up)
            process, login = check.process, server.login()
            for number in range(count):
                results = {"token checks, quiet": load(process, check.request, 32, seconds)}
                results["logins, alone"] = load(process, login, 32, seconds)
                process.rests(within=30)
                flood, flooded = Load(process, login, 32, seconds), Load(process, check.request, 32, seconds)
                results |= {"token checks, flooded": flooded.finish(), "logins, flooded": flood.finish()}
                process.rests(within=30)
                for work, result in results.items():
                    keep(record, "floods", work, check, 32, number, result)
            record_memory(record, "after the flood", server, process)


def backups(record, plan):
    """Token checks while the database with the most users is backed up, and how long that takes; and without."""
    users, (count, seconds) = plan.users[-1], plan.backups[32]
    folder = OURS.dataset(users)
    check = Contender(OURS, folder, users, OURS.check(folder))
    with running(record, "backups", [check]):
        ask_for_each(record, check, plan)
        for number in range(count):
            keep(record, "backups", "token checks, quiet", check, 32, number, check.load(32, seconds))
            checks = Load(check.process, check.request, 32, seconds)
            copy = folder / f"backup-{number}.db"
            command = [RELEASE / "authtokens", "--database", folder / "authtokens.db", "backup", copy]
            begun = time.monotonic()
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            record.add_value("backup times", f"{users:,} users", OURS.name, time.monotonic() - begun, "s", number)
            keep(record, "backups", "token checks beside a backup", check, 32, number, checks.finish())
            copy.unlink()


def limits(record, plan):
    """Logins with the limits on, so wide that they stop nobody, and off; at a cost at which that could be seen."""
    users = plan.users[1]
    off = Authtokens(6, name="authtokens at cost 6, limits off")
    wide = {"AUTHTOKENS__RATE_LIMIT__ENABLED": "true", "AUTHTOKENS__RATE_LIMIT__LOGIN": "1000000 per 1min"}
    on = Authtokens(6, name="authtokens at cost 6, limits on", **wide)
    contenders = [Contender(server, server.dataset(users), users, server.login()) for server in (off, on)]
    each("limits", record, contenders, plan.limits)


SECTIONS = {
    "sizes": sizes,
    "starts": starts,
    "memory": memory,
    "token-checks": token_checks,
    "refusals": refusals,
    "logins": logins,
    "dear-logins": dear_logins,
    "registrations": registrations,
    "cellar": cellar,
    "logouts": logouts,
    "floods": floods,
    "backups": backups,
    "limits": limits,
}
