"""The work, a function a section. Loads alternate between the servers round by round, so that what the machine does
besides falls on all of them alike; a server that is not being asked is idle."""

import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .load import Lines, Load, Request, ask, load, probe
from .paths import RELEASE, VENV, WORK
from .process import Process
from .servers import Server
from .servers.authtokens import Authtokens
from .servers.django import Django
from .servers.limits import Bare, Constant, commits_a_second, hashes_a_second, service_workers
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

# The two ways of sharing the cores between a server and the load generator.
APART, SHARED = "each on cores of its own", "all cores for both"
BARE_ON_ALL, CEILING_ON_ALL = f"{Bare.name}, a worker a core", f"{Constant.name}, a thread a core"
CORES = list(range(os.cpu_count()))

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
    # The cores that the server is held to, and those of the load generator: none in particular.
    cores: list[int] | None = None
    generator_cores: list[int] | None = None
    # What its loads are called, where that is not the name of the section.
    work: str | None = None

    def start(self):
        self.process = self.server.start(self.folder, self.cores)

    def load(self, connections, seconds):
        result = load(self.process, self.request, connections, seconds, self.generator_cores)
        # Who queues without bound goes on hashing for clients that have gone, and the next server must not pay for it.
        if not self.process.becomes_idle(within=5):
            self.process.kill()
            self.start()
        return result


@contextmanager
def running(record, section, contenders):
    """Starts the servers and asks each once by hand: who does not answer as it must is not measured."""
    with ExitStack() as stack:
        for contender in contenders:
            server, request = contender.server, contender.request
            contender.start()
            stack.callback(lambda contender=contender: contender.process.stop())
            status, body = ask(contender.process.port, request)
            record.add_example(section, server.name, status, body)
            if (status >= 400) != request.refusal:
                raise RuntimeError(f"{section}: {server.name} answers {status}: {body[:300]!r}")
            if request.once:
                request.lines.used += 1
        yield


def rounds(record, section, contenders, plan, between=None):
    """All the loads of a section. `between` is called in each round of 32 connections, for a limit. Every second round goes
    through the servers backwards, so that none is always the one behind another."""
    for connections, (count, seconds) in plan.items():
        for number in range(count):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                result = contender.load(connections, seconds)
                keep(record, section, contender.work or section, contender, connections, number, result)
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


def ask_for_each(record, section, contender, plan, sessions=1):
    """Asks for the sessions of every user once, but for a few that were on their way between two loads: what a service
    with a cache comes to by itself when it has run for a while."""
    request = replace(contender.server.check(contender.folder), once=True)
    while request.lines.used < contender.users * sessions:
        result = load(contender.process, request, 32, plan.warm_up)
        keep(record, section, f"{section}, every session once", contender, 32, -1, result)


def each(section, record, contenders, plan, between=None):
    """A section of the usual form."""
    with running(record, section, contenders):
        warm_up(record, section, contenders)
        rounds(record, section, contenders, plan, between)


def each_remembered(section, record, contenders, plan, loads, sessions=1):
    """The same with sessions that the service has seen before, against one-row commits."""
    with running(record, section, contenders):
        ask_for_each(record, section, contenders[0], plan, sessions)
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
    """When idle: a while after the first answer, when nobody has asked for anything else."""
    for server in CONTESTANTS:
        with server.start(server.dataset(plan.users[1])) as process:
            time.sleep(3)
            record_memory(record, "idle", server, process)


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
    users, most = plan.users[1:]
    folder = SMALL.dataset(most)
    contenders.append(Contender(SMALL, folder, most, SMALL.check(folder)))
    with running(record, "token checks", contenders):
        for contender in contenders:
            if contender.server is OURS:
                ask_for_each(record, "token checks", contender, plan)
        warm_up(record, "token checks", contenders, plan.warm_up)
        rounds(record, "token checks", contenders, plan.token_checks)
        for contender in contenders:
            if contender.users == users and contender.server in CONTESTANTS:
                record_memory(record, "after the token checks", contender.server, contender.process)


def framework(record, plan):
    """The same token checks against the bare framework, and against the most that the load generator can ask for: with the
    cores shared out between server and generator, and with all of them for both. All have the service's default number of
    workers, and the framework and the ceiling also one for each core, where both may use them all."""
    users, workers = plan.users[1], service_workers()
    # The service runs twice, each time on a file of its own. Held to some of the cores, its default would be half of those.
    folder, other = OURS.dataset(users), OURS.dataset(users, purpose="apart")
    held = Authtokens(10, AUTHTOKENS__SERVER__WORKERS=str(workers))
    contenders = [
        Contender(server, folder_of, users, OURS.check(folder), work=SHARED)
        for server, folder_of in (
            (OURS, folder),
            (Bare(folder), WORK),
            (Constant(folder), WORK),
            (Bare(folder, workers=len(CORES), name=BARE_ON_ALL), WORK),
            (Constant(folder, threads=len(CORES), name=CEILING_ON_ALL), WORK),
        )
    ]
    if len(CORES) > workers:
        own, rest = CORES[:workers], CORES[workers:]
        contenders += [
            Contender(server, folder_of, users, OURS.check(other), cores=own, generator_cores=rest, work=APART)
            for server, folder_of in ((held, other), (Bare(other), WORK), (Constant(other), WORK))
        ]
    with running(record, "framework", contenders):
        for contender in contenders:
            if isinstance(contender.server, Authtokens):
                found = contender.process.actix_workers()
                if found != workers:
                    raise RuntimeError(f"framework: the service has {found} workers and not {workers}")
                ask_for_each(record, "framework", contender, plan)
        warm_up(record, "framework", contenders, plan.warm_up)
        rounds(record, "framework", contenders, plan.framework)


def first_checks(record, plan):
    """The first use of each session since the server was started, in no order: each is read from the file, which is in
    memory. Each round has a process of its own, and a second before it counts."""
    users, (count, seconds) = plan.users[-1], plan.first_checks[32]
    folder = OURS.dataset(users)
    shuffled = folder / "shuffled"
    shuffled.mkdir(exist_ok=True)
    lines = (folder / "tokens").read_text().splitlines(keepends=True)
    random.Random(users).shuffle(lines)
    (shuffled / "tokens").write_text("".join(lines))
    bare = Bare(shuffled)
    contenders = [Contender(OURS, folder, users, None), Contender(bare, WORK, users, None)]
    for number in range(count):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            contender.request = replace(contender.server.check(shuffled), once=True)
            with running(record, "first checks", [contender]):
                warm_up(record, "first checks", [contender])
                result = contender.load(32, seconds)
                keep(record, "first checks", "first checks", contender, 32, number, result)
                # A load that starts over asks for sessions that are cached by then.
                if contender.server is OURS and contender.request.lines.used > users:
                    raise RuntimeError("first checks: the load came to the end of the sessions; shorten it in plan.py")


# How often the probe asks: a hundredth of what one connection could.
PROBE_EVERY = 0.005


def drop_page_cache():
    """Drops the page cache of Linux; whether it let us."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def cold(record, plan):
    """Token checks of the most users with nothing of the file in memory, and a probe that asks for something else meanwhile.
    Then the same with the file in memory."""
    users, (count, seconds) = plan.users[-1], plan.cold[32]
    folder = OURS.dataset(users)
    check = Contender(OURS, folder, users, OURS.check(folder))
    for number in range(count):
        for work in ("with a cold page cache", "with a warm page cache"):
            with running(record, "cold", [check]):
                if work == "with a cold page cache" and not drop_page_cache():
                    note = "the page cache cannot be dropped here: that takes root on a machine of one's own"
                    record.about.setdefault("left_out", {})["cold"] = note
                    print(f"cold: left out, {note}", file=sys.stderr)
                    return
                checks = Load(check.process, check.request, 32, seconds)
                took = probe(check.process, "/healthz", seconds, PROBE_EVERY)
                keep(record, "cold", work, check, 32, number, checks.finish())
            shares = statistics.quantiles(took, n=100)
            for what, value in (("p50", shares[49]), ("p99", shares[98]), ("max", max(took))):
                record.add_value("cold probes", f"{what}, {work}", OURS.name, value, "ms", number)


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
    """Token checks of 32 connections while 32 others log in without pause, and each of the two alone. The bare framework
    beside the service's own hashing threads, which never pause, shows what of it is the machine's."""
    users, (count, seconds) = plan.users[1], plan.floods[32]
    tokens = OURS_AT_12.dataset(users)
    checks = []
    for server in (OURS_AT_12, POCKETBASE, DRF):
        folder = server.dataset(users)
        checks.append(Contender(server, folder, users, server.check(folder)))
    bare, hashing = Bare(tokens), Bare(tokens, hashing_at=OURS_AT_12.cost)
    quiet = Contender(bare, WORK, users, bare.check(tokens))
    with running(record, "floods", [*checks, quiet]):
        ask_for_each(record, "floods", checks[0], plan)
        warm_up(record, "floods", [*checks, quiet], plan.warm_up)
        for number in range(count):
            for check in checks:
                flood(record, check, number, seconds)
            keep(record, "floods", "token checks, quiet", quiet, 32, number, load(quiet.process, quiet.request, 32, seconds))
            flooded = Contender(hashing, WORK, users, quiet.request)
            with hashing.start(WORK) as process:
                result = load(process, flooded.request, 32, seconds)
            keep(record, "floods", "token checks, flooded", flooded, 32, number, result)
        for check in checks:
            record_memory(record, "after the flood", check.server, check.process)


def flood(record, check, number, seconds):
    process, login = check.process, check.server.login()
    results = {"token checks, quiet": load(process, check.request, 32, seconds)}
    results["logins, alone"] = load(process, login, 32, seconds)
    process.becomes_idle(within=30)
    logins, checks = Load(process, login, 32, seconds), Load(process, check.request, 32, seconds)
    results |= {"token checks, flooded": checks.finish(), "logins, flooded": logins.finish()}
    process.becomes_idle(within=30)
    for work, result in results.items():
        keep(record, "floods", work, check, 32, number, result)


def backups(record, plan):
    """Token checks while the database with the most users is backed up, and how long that takes; and without."""
    users, (count, seconds) = plan.users[-1], plan.backups[32]
    folder = OURS.dataset(users)
    check = Contender(OURS, folder, users, OURS.check(folder))
    with running(record, "backups", [check]):
        ask_for_each(record, "backups", check, plan)
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
    """Logins with the limits on, so generous that they stop nobody, and off; at a cost at which that could be measured."""
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
    "framework": framework,
    "first-checks": first_checks,
    "cold": cold,
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
