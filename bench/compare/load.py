"""One run of the load generator, and a single request by hand before it."""

import json
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from .paths import BENCH, LOGIN_USERS
from .process import on_cores


class Lines:
    """A file of lines of one width, of which each request takes one: at random, or each line once."""

    def __init__(self, path):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            self.width = len(file.readline().rstrip(b"\n"))
        self.used = 0

    def first(self):
        with open(self.path) as file:
            return file.read(self.width)


@dataclass
class Request:
    """A request as a template; see load.lua for its placeholders."""

    method: str
    path: str
    headers: dict = field(default_factory=dict)
    body: str | None = None
    lines: Lines | None = None
    # Each line once: for what can be done once, like a logout.
    once: bool = False
    # Whether a refusal (a status of 400 or more) is the right answer.
    refusal: bool = False

    def head(self):
        headers = {"Host": "127.0.0.1", **self.headers}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "".join(line + "\r\n" for line in lines)

    def example(self):
        """The bytes of one request, with the first line of the file and a name that no load uses."""
        line = self.lines.first() if self.lines else ""

        def fill(template):
            for placeholder, value in (
                ("{number}", "999999"),
                ("{user}", "0"),
                ("{serial}", "x"),
                ("{line}", line),
                ("{run}", str(time.time_ns())),
                ("{line:1:15}", line[:15]),
                ("{line:17:999}", line[16:]),
            ):
                template = template.replace(placeholder, value)
            return template

        head, body = fill(self.head()), fill(self.body or "")
        length = f"Content-Length: {len(body)}\r\n" if self.body is not None else ""
        return f"{head}{length}Connection: close\r\n\r\n{body}".encode()


def ask(port, request):
    """Sends the request once: the status and the body."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request.example())
        return read_answer(connection.makefile("rb"))


def read_answer(answer):
    status = int(answer.readline().split()[1])
    length = 0
    while line := answer.readline().strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, answer.read(length)


class Load:
    """A load that runs: `finish` waits for its end and says what came back."""

    count = 0

    def __init__(self, process, request, connections, seconds, cores=None):
        """Threads of the generator: one, or one for each of the cores that it is held to."""
        Load.count += 1
        self.threads = len(cores or [0])
        self.process, self.request, self.connections = process, request, connections
        environment = {
            **os.environ,
            "SEED": str(Load.count),
            "HEAD": request.head(),
            "USERS": str(LOGIN_USERS),
        }
        if request.body is not None:
            environment["BODY"] = request.body.replace("{run}", str(Load.count))
        if request.lines:
            environment |= {"LINES_FILE": str(request.lines.path), "WIDTH": str(request.lines.width)}
            if request.once:
                environment["START"] = str(request.lines.used)
        self.output = tempfile.TemporaryFile("w+")
        self.before = process.processor_seconds()
        command = [
            "wrk",
            f"-t{min(self.threads, connections)}",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "60s",
            "-s",
            str(BENCH / "load.lua"),
            f"http://127.0.0.1:{process.port}",
        ]
        self.wrk = subprocess.Popen(
            on_cores(cores, command),
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    def finish(self):
        _, status, usage = os.wait4(self.wrk.pid, 0)
        self.wrk.returncode = os.waitstatus_to_exitcode(status)
        self.output.seek(0)
        said = self.output.read()
        self.output.close()
        result = next((line for line in said.splitlines() if line.startswith("RESULT ")), None)
        if self.wrk.returncode != 0 or result is None:
            raise RuntimeError(f"wrk failed: {said}")
        result = json.loads(result.removeprefix("RESULT "))
        if self.request.once:
            # What was on its way when the time was up may have been answered, and cannot be asked again.
            self.request.lines.used += result["requests"] + 2 * self.connections
        good = result["refused"] if self.request.refusal else result["requests"] - result["refused"]
        seconds = result["seconds"]
        return {
            **result,
            "good": good,
            "unexpected": result["requests"] - good,
            "socket_errors": sum(result[kind] for kind in ("connect_errors", "read_errors", "write_errors")),
            "rate": good / seconds,
            "generator_cores": (usage.ru_utime + usage.ru_stime) / seconds,
            "generator_threads": self.threads,
            "server_cores": (self.process.processor_seconds() - self.before) / seconds,
        }


def load(process, request, connections, seconds, cores=None):
    return Load(process, request, connections, seconds, cores).finish()


def probe(process, path, seconds, every):
    """Asks for a path at a fixed pace on one connection: how long the answers took, in milliseconds, in the order of the
    requests. Each is timed from when it was due: who waits for a late answer asks late, and must not hide that."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    took = []
    with socket.create_connection(("127.0.0.1", process.port), timeout=60) as connection:
        answers = connection.makefile("rb")
        begun = time.monotonic()
        while (due := begun + len(took) * every) < begun + seconds:
            time.sleep(max(0, due - time.monotonic()))
            connection.sendall(request)
            status, _ = read_answer(answers)
            if status != 200:
                raise RuntimeError(f"{path} answers {status}")
            took.append((time.monotonic() - due) * 1000)
    return took
