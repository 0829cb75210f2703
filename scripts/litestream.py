"""Loses and restores the file of a busy server that Litestream replicates. scripts/litestream calls it."""

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

binary, litestream, configuration = sys.argv[1:4]
work = Path.cwd()
data, replica, control = work / "data", work / "replica", work / "litestream.sock"
database = data / "authtokens.db"
SECONDS = float(os.environ.get("ROUND_SECONDS", "8"))
CLIENTS = 8

text = Path(configuration).read_text()
for there, here in (("/var/lib/authtokens/authtokens.db", database), ("/var/backups/authtokens", replica),
                    ("/run/litestream/litestream.sock", control)):
    assert there in text
    text = text.replace(there, str(here))
(work / "litestream.yml").write_text(text)


started = []
# Where a check fails, nothing is left running. What has ended already is killed in vain.
atexit.register(lambda: [process.kill() for process in started])


class Server:
    """The service, on a port of its own."""

    def __init__(self):
        # All clients come from one address, which the limits would soon stop.
        settings = {"AUTHTOKENS_CONFIG": "/dev/null", "AUTHTOKENS__PASSWORD__BCRYPT_COST": "4", "RUST_LOG": "warn",
                    "AUTHTOKENS__RATE_LIMIT__ENABLED": "false"}
        environment = os.environ | settings
        self.log = open(work / "server.log", "w+")
        command = [binary, "--listen", "127.0.0.1:0", "--database", str(database)]
        self.process = subprocess.Popen(command, stderr=self.log, env=environment)
        started.append(self.process)
        deadline = time.monotonic() + 20
        while not (found := re.search(r"listens on http://127.0.0.1:(\d+)", self.said())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.port = int(found[1])

    def said(self):
        return (work / "server.log").read_text()

    def stop(self):
        told_at = time.monotonic()
        self.process.terminate()
        assert self.process.wait(60) == 0, self.said()
        return time.monotonic() - told_at

    def kill(self):
        self.process.kill()
        self.process.wait()


def start_litestream():
    log = open(work / "litestream.log", "a")
    process = subprocess.Popen([litestream, "replicate", "-config", "litestream.yml"], stdout=log, stderr=log)
    started.append(process)
    deadline = time.monotonic() + 20
    while not control.exists():
        assert process.poll() is None and time.monotonic() < deadline, (work / "litestream.log").read_text()
        time.sleep(0.02)
    return process


def ask(connection, method, path, body=None, token=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    text = response.read()
    return response.status, json.loads(text)


class Load:
    """Clients that register, log in and log out, and remember what they were told."""

    def __init__(self, server):
        self.server, self.over = server, threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        while not self.over.is_set():
            try:
                with told_lock:
                    counter[0] += 1
                    username = f"user{counter[0]}"
                account = {"username": username, "password": "hunter2"}
                status, first = ask(connection, "POST", "/api/register", account)
                assert status == 201, (status, first)
                told("user", username)
                told("token", first["token"])
                status, second = ask(connection, "POST", "/api/login", account)
                assert status == 200, (status, second)
                told("token", second["token"])
                status, answer = ask(connection, "POST", "/api/logout", None, first["token"])
                assert status == 200, (status, answer)
                told("ended", first["token"])
            except (OSError, http.client.HTTPException):
                return  # the server is gone: what it answered last is not known to anyone

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


counter, told_lock, acknowledged = [0], threading.Lock(), []


def told(kind, what):
    with told_lock:
        acknowledged.append((time.monotonic(), kind, what))


def counts(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("users", "tokens")]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return tuple(found)


def expected():
    kinds = [kind for _, kind, _ in acknowledged]
    return kinds.count("user"), kinds.count("token") - kinds.count("ended")


def destroy():
    """The whole folder: the file, its WAL and index, and what Litestream keeps beside them."""
    shutil.rmtree(data)


def restore():
    data.mkdir(mode=0o700)
    began = time.monotonic()
    subprocess.run([litestream, "restore", "-config", "litestream.yml", str(database)], check=True,
                   capture_output=True)
    return time.monotonic() - began


def wait_for_sync():
    began = time.monotonic()
    subprocess.run([litestream, "sync", "-wait", "-socket", str(control), str(database)], check=True,
                   capture_output=True)
    return time.monotonic() - began


def stop_litestream(process):
    process.terminate()
    process.wait(30)
    control.unlink(missing_ok=True)


def largest_wal(seconds):
    """Lets the load run; the largest size of the WAL meanwhile."""
    largest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        largest = max(largest, Path(f"{database}-wal").stat().st_size)
        time.sleep(0.1)
    return largest / 1024 / 1024


def live_tokens(server, sample=50):
    """Of the last tokens that were told, how many open an account that should and do not, or do and should not."""
    ended = {what for _, kind, what in acknowledged if kind == "ended"}
    tokens = [what for _, kind, what in acknowledged if kind == "token"][-sample:]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    return sum((ask(connection, "GET", "/api/user", None, token)[0] == 200) == (token in ended) for token in tokens)


print("== Written, synced, destroyed, restored: everything must be there")
server = Server()
replication = start_litestream()
load = Load(server)
size = largest_wal(SECONDS)
load.stop()
writes = len(acknowledged)
took = wait_for_sync()
server.kill()
replication.send_signal(signal.SIGKILL)
replication.wait()
control.unlink(missing_ok=True)
assert counts(database) == expected()
destroy()
restoring = restore()
assert counts(database) == expected(), f"restored {counts(database)}, acknowledged {expected()}"
server = Server()
assert live_tokens(server) == 0
print(f"{writes} writes acknowledged ({writes / SECONDS:.0f} a second), WAL at most {size:.1f} MiB; "
      f"synced {took:.2f} s later, restored in {restoring:.2f} s:")
print(f"{counts(database)[0]} users and {counts(database)[1]} tokens, as acknowledged")

print("\n== The same, with three restarts of the server under Litestream")
replication = start_litestream()
stops = []
for _ in range(3):
    load = Load(server)
    largest_wal(SECONDS / 4)
    load.stop()
    stops.append(server.stop())
    held = "the WAL was not checkpointed" in server.said()
    server = Server()
load = Load(server)
largest_wal(SECONDS / 4)
load.stop()
wait_for_sync()
server.kill()
stop_litestream(replication)
destroy()
restore()
assert counts(database) == expected(), f"restored {counts(database)}, acknowledged {expected()}"
server = Server()
assert live_tokens(server) == 0
print(f"stops of the server took {', '.join(f'{stop:.1f}' for stop in stops)} s"
      f"{', and left the WAL beside the file, for Litestream reads it' if held else ''}\n"
      f"{counts(database)[0]} users and {counts(database)[1]} tokens, as acknowledged")

print("\n== Everything dies at once in the middle of it: what is lost is young")
replication = start_litestream()
load = Load(server)
largest_wal(SECONDS / 2)
died = time.monotonic()
replication.send_signal(signal.SIGKILL)
server.kill()
replication.wait()
control.unlink(missing_ok=True)
load.stop()
destroy()
restore()
connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
names = {name for (name,) in connection.execute("SELECT username FROM users")}
connection.close()
lost = [at for at, kind, what in acknowledged if kind == "user" and what not in names]
oldest = died - min(lost) if lost else 0
print(f"of {expected()[0]} registrations {len(lost)} are lost, the oldest {oldest:.2f} s old when everything died")
assert oldest < 10, "the replica lags"
server = Server()
server.stop()
print("\nLitestream works.")
