"""A running server: its first answer, its memory, its end."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_cores(cores, command):
    """The command held to some of the cores, or to none in particular."""
    return command if cores is None else ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


class Process:
    """A server on a port of its own. It is stopped on the way out of a `with` block."""

    def __init__(self, name, command, port, folder, environment=None, cores=None):
        self.name, self.port = name, port
        command = on_cores(cores, command)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = open(folder / f"{name.replace(' ', '-')}.log", "ab")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            # A group, and not a session of its own: Linux would weigh priorities within the session alone, and not
            # against the load generator.
            process_group=0,
            env={**os.environ, **(environment or {})},
        )

    def first_answer(self, request):
        """Asks until there is an answer; the milliseconds since the process was started."""
        while time.monotonic() < self.started + 120:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                    connection.sendall(request)
                    if connection.recv(1):
                        return (time.monotonic() - self.started) * 1000
            except OSError:
                time.sleep(0.0005)
        raise RuntimeError(f"{self.name} gives no answer; see {self.log.name}")

    def tree(self):
        """The process and all that it started."""
        found, parents = [], [self.process.pid]
        while parents:
            pid = parents.pop()
            found.append(pid)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                # A thread may end while we look.
                with suppress(FileNotFoundError, ProcessLookupError):
                    parents.extend(int(child) for child in (thread / "children").read_text().split())
        return found

    def actix_workers(self):
        """How many workers an actix-web server really has, by the names of its threads."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum((thread / "comm").read_text().startswith("actix-rt|system") for thread in threads)

    def memory(self):
        """MiB: resident, and with what processes share counted once."""
        rss = pss = 0
        for pid in self.tree():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, _, value = line.partition(":")
                rss += int(value.split()[0]) if key == "Rss" else 0
                pss += int(value.split()[0]) if key == "Pss" else 0
        return {"rss": rss / 1024, "pss": pss / 1024}

    def processor_seconds(self):
        total = 0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def becomes_idle(self, within):
        """Waits until the server has nothing left to do; whether it came to that within so many seconds."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            before = self.processor_seconds()
            time.sleep(0.2)
            if self.processor_seconds() - before <= 0.02:
                return True
        return False

    def stop(self):
        pid, end = self.process.pid, time.monotonic() + 10
        if self.process.returncode is None:
            os.kill(pid, signal.SIGTERM)
            # Not reaped yet: until its group is gone too, nobody else may get its process id.
            while time.monotonic() < end and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                time.sleep(0.005)
        self.kill()

    def kill(self):
        """Ends what is left of its group: workers that still hash do not hear of their master's end."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
