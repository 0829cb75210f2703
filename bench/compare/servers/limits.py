"""What nobody can be faster than: the framework, the load generator, the hash, the disk."""

import os
import subprocess

from . import Server, token_request
from ..load import Lines, Request
from ..places import EXAMPLES, WORK


class Bare(Server):
    name = "bare actix-web"
    about = "The same framework with handlers that look at nothing and answer JSON of the same size (`bench/limits/bare.rs`)."

    def __init__(self, tokens):
        self.tokens = tokens

    def command(self, folder, port):
        return [EXAMPLES / "bare", f"127.0.0.1:{port}", os.cpu_count()], {}

    def check(self, folder):
        return token_request("GET", "/api/user", self.tokens)

    def refusal(self, tokens):
        return Request("POST", "/api/logout", {"Authorization": "Token {line}"}, lines=Lines(tokens), refusal=True)


class Constant(Server):
    name = "load generator's ceiling"
    about = "wrk against a server that writes the same bytes for whatever it reads (`bench/limits/constant.rs`)."

    def __init__(self, tokens):
        self.tokens = tokens

    def command(self, folder, port):
        return [EXAMPLES / "constant", f"127.0.0.1:{port}"], {}

    def check(self, folder):
        return token_request("GET", "/api/user", self.tokens)


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
