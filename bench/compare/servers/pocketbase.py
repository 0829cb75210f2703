"""PocketBase, the nearest in kind: one binary over one SQLite file.

Its users get the fields that the service's have, through its own API; then rows are inserted into its file, and the
tokens, which are JWTs, are signed here as PocketBase signs them: HS256 with the record's `tokenKey` and the collection's
secret.
"""

import base64
import hmac
import json
import random
import sqlite3
import subprocess
import time
import urllib.request

from . import Server
from ..load import Lines, Request
from ..paths import PASSWORD, VENV
from ..process import Process, free_port

PROGRAM = VENV / "bin" / "pocketbase"
SUPERUSER = ("root@example.org", "a-password-for-the-measurement")
TEXTS = "username first_name last_name address address2 city state zipcode last_login date_joined".split()
RECORDS = "/api/collections/users/records"
JSON = {"Content-Type": "application/json"}


class PocketBase(Server):
    name = "PocketBase"
    about = (
        "The published binary at its defaults: bcrypt of cost 10, request log on, rate limits off, SQLite in WAL mode "
        "with `synchronous=NORMAL`, which does not flush at each commit and is not safe from a power cut. The `users` "
        "collection with its own rules (`id = @request.auth.id`) and, beyond its own fields, those of the user object, "
        "the lists as JSON. The token check is the read of one's own record. Its tokens are JWTs without a stored row, "
        "so a login writes nothing, and nothing can end one token: there is no logout to compare. A registration "
        "answers the record without a token. Adding an item is an update of the record with the whole list of six, for "
        "a JSON field has nothing else."
    )

    def command(self, folder, port):
        return [PROGRAM, "serve", "--http", f"127.0.0.1:{port}", "--dir", folder / "pb_data"], {}

    def fill(self, folder, users, sessions):
        data = folder / "pb_data"
        create = [PROGRAM, "superuser", "create", *SUPERUSER, "--dir", data]
        subprocess.run([str(part) for part in create], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        port = free_port()
        command, environment = self.command(folder, port)
        with Process(self.name, command, port, folder, environment) as process:
            process.first_answer(b"GET /api/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            prepare(f"http://127.0.0.1:{port}")
        connection = sqlite3.connect(data / "data.db")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        [password] = connection.execute("SELECT password FROM users").fetchone()
        [options] = connection.execute("SELECT options FROM _collections WHERE name = 'users'").fetchone()
        secret = json.loads(options)["authToken"]["secret"]
        connection.execute("DELETE FROM users")
        expires = int(time.time()) + 30 * 24 * 3600
        with open(folder / "tokens", "w") as tokens:
            for number in range(users):
                identity, key = f"{random.getrandbits(60):015x}", f"{random.getrandbits(200):050x}"
                connection.execute(
                    "INSERT INTO users (id, email, username, password, tokenKey, created, updated, last_login, "
                    "date_joined, verified, is_active, cellar, wants) "
                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?6, 1, 1, '[1,2,3,4,5]', '[]')",
                    (identity, f"user{number}@example.org", f"user{number}", password, key, "2015-01-04 22:51:35.144Z"),
                )
                tokens.write(f"{identity} {sign(identity, expires, key + secret)}\n")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def check(self, folder):
        return own_record("GET", folder)

    def login(self):
        body = '{"identity": "user{user}@example.org", "password": "%s"}' % PASSWORD
        return Request("POST", "/api/collections/users/auth-with-password", body=body)

    def register(self):
        name = "r{run}x{serial}"
        body = '{"email": "%s@example.org", "username": "%s", "password": "%s", "passwordConfirm": "%s"}'
        return Request("POST", RECORDS, body=body % (name, name, PASSWORD, PASSWORD))

    def add_item(self, folder):
        return own_record("PATCH", folder, body='{"cellar": [1, 2, 3, 4, 5, {number}]}')

    def database_files(self, folder):
        return [folder / "pb_data" / "data.db", folder / "pb_data" / "data.db-wal"]


def own_record(method, folder, **more):
    """A request for the record behind a random token, or for none where there is no user."""
    tokens = folder / "tokens"
    if not tokens.stat().st_size:
        return Request(method, f"{RECORDS}/nobody", **more)
    headers = {"Authorization": "{line:17:999}"}
    return Request(method, RECORDS + "/{line:1:15}", headers, lines=Lines(tokens), **more)


def prepare(server):
    """Gives the users the fields of the user object and makes one user, for its hash."""

    def call(method, path, body=None, token=""):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(server + path, data, {**JSON, "Authorization": token}, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    identity, password = SUPERUSER
    login = {"identity": identity, "password": password}
    token = call("POST", "/api/collections/_superusers/auth-with-password", login)["token"]
    users = call("GET", "/api/collections/users", token=token)
    fields = [{"name": name, "type": "text"} for name in TEXTS]
    fields += [{"name": name, "type": "json"} for name in ("cellar", "wants")]
    fields += [{"name": name, "type": "bool"} for name in ("is_active", "is_superuser", "is_staff")]
    call("PATCH", "/api/collections/users", {"fields": users["fields"] + fields}, token)
    call("POST", RECORDS, {"email": "one@example.org", "password": PASSWORD, "passwordConfirm": PASSWORD})


def sign(identity, expires, key):
    """The token that PocketBase itself would give the record."""
    claims = {"collectionId": "_pb_users_auth_", "exp": expires, "id": identity, "refreshable": True, "type": "auth"}
    signed = encoded({"alg": "HS256", "typ": "JWT"}) + "." + encoded(claims)
    signature = hmac.digest(key.encode(), signed.encode(), "sha256")
    return signed + "." + base64.urlsafe_b64encode(signature).decode().rstrip("=")


def encoded(value):
    text = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
