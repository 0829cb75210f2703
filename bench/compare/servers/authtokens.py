"""The service itself."""

import subprocess

from . import Server, token_request
from ..load import Lines, Request
from ..paths import EXAMPLES, PASSWORD, RELEASE


class Authtokens(Server):
    about = (
        "The release build at its defaults, which log one line a request and commit with `synchronous=FULL`, with the "
        "limits on logins and registrations off (`AUTHTOKENS__RATE_LIMIT__ENABLED=false`): all of the load comes from "
        "one address."
    )

    def __init__(self, cost, name=None, **environment):
        self.cost = cost
        self.name = name or "authtokens"
        self.environment = environment

    def command(self, folder, port):
        environment = {
            # None of this machine's.
            "AUTHTOKENS_CONFIG": "/dev/null",
            "AUTHTOKENS__RATE_LIMIT__ENABLED": "false",
            "AUTHTOKENS__PASSWORD__BCRYPT_COST": str(self.cost),
            **self.environment,
        }
        command = [RELEASE / "authtokens", "--listen", f"127.0.0.1:{port}", "--database", folder / "authtokens.db"]
        return command, environment

    def fill(self, folder, users, sessions):
        with open(folder / "tokens", "w") as tokens:
            arguments = [folder / "authtokens.db", users, self.cost, sessions]
            subprocess.run([EXAMPLES / "fill", *map(str, arguments)], check=True, stdout=tokens)

    def check(self, folder):
        return token_request("GET", "/api/user", folder)

    def login(self):
        return Request("POST", "/api/login", body='{"username": "user{user}", "password": "%s"}' % PASSWORD)

    def register(self):
        return Request("POST", "/api/register", body='{"username": "r{run}x{serial}", "password": "%s"}' % PASSWORD)

    def logout(self, folder):
        return token_request("POST", "/api/logout", folder, once=True)

    def add_item(self, folder):
        return token_request("PUT", "/api/user/cellar/{number}", folder)

    def refusal(self, tokens):
        """A logout with a token that nobody has: the cheapest question there is."""
        return Request("POST", "/api/logout", {"Authorization": "Token {line}"}, lines=Lines(tokens), refusal=True)

    def database_files(self, folder):
        return [folder / "authtokens.db", folder / "authtokens.db-wal"]
