"""Django REST framework under gunicorn, with its own tokens or with knox's, with bcrypt or with Django's own hasher."""

import os
import subprocess

from . import Server, token_request
from ..load import Request
from ..paths import BENCH, PASSWORD, VENV

PROJECT = BENCH / "django"
WORKERS = 2 * os.cpu_count() + 1


class Django(Server):
    def __init__(self, name, tokens, hasher):
        self.name, self.tokens, self.hasher = name, tokens, hasher
        package = "Django REST framework's own tokens" if tokens == "authtoken" else "the tokens of django-rest-knox"
        hashes = "BCryptSHA256 at cost 10" if hasher == "bcrypt" else "PBKDF2 with SHA-256, Django's default"
        self.about = (
            f"{package[0].upper()}{package[1:]}; {hashes}; gunicorn with {WORKERS} workers (2 x cores + 1) of the "
            "`gthread` class, two threads each, connections kept alive, no access log; `DEBUG` off, no session or CSRF "
            "middleware, JSON only; SQLite in WAL mode with `synchronous=NORMAL`, immediate transactions, connections "
            "kept open. The lists are JSON columns of the user's row, so that one query answers the user object."
        )

    def environment(self, folder):
        return {
            "BENCH_DATABASE": str(folder / "db.sqlite3"),
            "BENCH_TOKENS": self.tokens,
            "BENCH_HASHER": self.hasher,
            "BENCH_PASSWORD": PASSWORD,
            "PYTHONPATH": str(PROJECT),
            "DJANGO_SETTINGS_MODULE": "service.settings",
            "BENCH_SECRET": "one secret for all workers of a measurement",
        }

    def command(self, folder, port):
        command = [
            VENV / "bin" / "gunicorn",
            "service.wsgi",
            "--bind",
            f"127.0.0.1:{port}",
            "--workers",
            WORKERS,
            "--worker-class",
            "gthread",
            "--threads",
            "2",
            "--keep-alive",
            "75",
            "--timeout",
            "120",
            "--backlog",
            "2048",
            "--log-level",
            "warning",
        ]
        return command, self.environment(folder)

    def fill(self, folder, users, sessions):
        with open(folder / "tokens", "w") as tokens:
            subprocess.run(
                [VENV / "bin" / "python", PROJECT / "fill.py", str(users), str(sessions)],
                check=True,
                stdout=tokens,
                env={**os.environ, **self.environment(folder)},
            )

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

    def database_files(self, folder):
        return [folder / "db.sqlite3", folder / "db.sqlite3-wal"]
