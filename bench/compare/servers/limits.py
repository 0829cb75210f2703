"""What nobody can be faster than: the framework, the load generator, the hash, the disk."""

import os
import subprocess

from . import Server, token_request
from ..load import Lines, Request
from ..paths import EXAMPLES, WORK


class Bare(Server):
    name = "bare actix-web"
    about = (
        "The same framework with handlers that look at nothing and answer JSON of the same size (`bench/limits/bare.rs`), "
        "with as many workers as the service has. In the floods, as many hashing threads as the service has hash in the "
        "same process without pause, with the service's own code, cost and niceness."
    )

    def __init__(self, tokens, workers=None, name=None, hashing_at=None):
        self.tokens, self.workers, self.hashing_at = tokens, workers or service_workers(), hashing_at
        self.name = name or Bare.name

    def command(self, folder, port):
        hashing = [self.hashing_at, service_hashing_threads()] if self.hashing_at else []
        return [EXAMPLES / "bare", f"127.0.0.1:{port}", self.workers, *hashing], {}

    def check(self, folder):
        return token_request("GET", "/api/user", self.tokens)

    def refusal(self, tokens):
        return Request("POST", "/api/logout", {"Authorization": "Token {line}"}, lines=Lines(tokens), refusal=True)


class Constant(Server):
    name = "load generator's ceiling"
    about = (
        "wrk against a server that writes the same bytes for whatever it reads (`bench/limits/constant.rs`), with as many "
        "threads as the service has workers."
    )

    def __init__(self, tokens, threads=None, name=None):
        self.tokens, self.threads = tokens, threads or service_workers()
        self.name = name or Constant.name

    def command(self, folder, port):
        return [EXAMPLES / "constant", f"127.0.0.1:{port}", self.threads], {}

    def check(self, folder):
        return token_request("GET", "/api/user", self.tokens)


def service_workers():
    """The service's default: half of the cores, and at least one."""
    return max(1, os.cpu_count() // 2)


def service_hashing_threads():
    """The service's default: as many as there are cores."""
    return os.cpu_count()


def hashes_a_second(cost, seconds):
    """bcrypt alone, in a loop on every core."""
    return number(EXAMPLES / "bcrypt_alone", cost, seconds)


def commits_a_second(seconds):
    """One row a commit, each flushed, one after the other."""
    WORK.mkdir(parents=True, exist_ok=True)
    return number(EXAMPLES / "commits", WORK / "commits.db", seconds)


def number(*command):
    said = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
    return float(said)
