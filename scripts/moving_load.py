"""The clients of scripts/moving, and what they were told: a phone never logs in again, a visitor logs in and out all the
time, a newcomer registers.

They do what a client of an API does: a change that is refused with 503 and `Retry-After` is sent again after that time. A
request on a connection that was kept, and that ends without an answer, is sent once more on a new one: nginx closes kept
connections when it reloads, and may do so just when a request comes. Everything else that is not the answer to expect is a
finding.
"""

import collections
import http.client
import itertools
import json
import random
import select
import threading
import time

# How long a client waits for an answer.
PATIENCE = 30
READS = ("GET",)


class Cut(Exception):
    """The connection ended before the answer was there."""


class Client:
    """A connection that is kept. Each client has an address of its own, as phones have."""

    def __init__(self, port, address):
        self.port, self.address, self.connection = port, address, None

    def ask(self, method, path, body=None, token=None):
        """The answer's status, body and `Retry-After`, and whether it took a second connection."""
        headers = {"Authorization": f"Token {token}"} if token else {}
        text = None
        if body is not None:
            text, headers["Content-Type"] = json.dumps(body), "application/json"
        elif method == "POST":
            text = ""
        # Readable without a question is closed: a new one is made, as the libraries of phones do.
        if self.connection is not None and select.select([self.connection.sock], [], [], 0)[0]:
            self.close()
        was_kept = self.connection is not None
        try:
            return *self._ask_once(method, path, text, headers), False
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not was_kept:
                raise Cut(f"{method} {path}: {error!r}") from error
        try:
            return *self._ask_once(method, path, text, headers), True
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Cut(f"{method} {path}, for the second time: {error!r}") from error

    def _ask_once(self, method, path, text, headers):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=PATIENCE, source_address=(self.address, 0)
            )
        self.connection.request(method, path, text, headers)
        answer = self.connection.getresponse()
        told = answer.read()
        if answer.will_close:
            self.close()
        try:
            read = json.loads(told)
        except ValueError:
            read = None
        return answer.status, read, answer.getheader("Retry-After")

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class Load:
    """All clients, what they counted, and what they found."""

    def __init__(self, port, accounts):
        self.port, self.accounts = port, accounts
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.counts, self.findings = collections.Counter(), []
        self.waits, self.slowest = [], collections.Counter()
        # Accounts that were registered: name, password and token; and tokens whose end was acknowledged.
        self.registered, self.ended = [], []
        self.addresses = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())
        self.phones = [Phone(self, *account) for account in accounts[:8]]
        visitors = [Visitor(self, *account) for account in accounts[8:12]]
        self.workers = [*self.phones, *visitors, Newcomer(self)]

    def start(self):
        self.stopping.clear()
        self.threads = [threading.Thread(target=self._run, args=(worker,)) for worker in self.workers]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _run(self, worker):
        while not self.stopping.is_set():
            try:
                worker.step()
            except Cut as cut:
                self.find(f"no answer: {cut}")
            except Exception as error:  # noqa: BLE001 - a client that ended silently would have found nothing
                self.find(f"{type(worker).__name__}: {error!r}")

    def client(self):
        with self.lock:
            return Client(self.port, next(self.addresses))

    def find(self, what):
        with self.lock:
            self.findings.append(what)

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] += by

    def send(self, client, method, path, body=None, token=None):
        """Sends it until it is not refused for the moment. Answers the status, the body, and whether it was sent twice."""
        first, sent_twice = None, False
        while True:
            began = time.monotonic()
            status, told, retry_after, again = client.ask(method, path, body, token)
            took = time.monotonic() - began
            kind = "read" if method in READS else "change"
            with self.lock:
                self.counts[kind] += 1
                self.counts["sent again on a new connection"] += again
                self.slowest[kind] = max(self.slowest[kind], took)
            sent_twice |= again
            if status == 503 and method not in READS and retry_after is not None:
                first = first or began
                if self.stopping.is_set() and time.monotonic() - first > PATIENCE:
                    raise Cut(f"{method} {path}: refused for the moment, for {PATIENCE} s")
                self.count("change that was refused for the moment")
                time.sleep(min(float(retry_after), 5))
                continue
            if first is not None:
                with self.lock:
                    self.waits.append(time.monotonic() - first)
            return status, told, sent_twice


class Phone:
    """Keeps the token that it has, reads its account and changes its lists."""

    def __init__(self, load, name, password, token):
        self.load, self.name, self.password, self.token = load, name, password, token
        self.client = load.client()
        self.lists = None

    def step(self):
        if self.lists is None or random.random() < 0.6:
            self.read()
        else:
            self.change()
        time.sleep(random.uniform(0.005, 0.03))

    def read(self):
        status, user, _ = self.load.send(self.client, "GET", "/api/user", token=self.token)
        if status != 200:
            return self.load.find(f"{self.name}: GET /api/user was {status}: {user}")
        told = {name: user[name] for name in ("cellar", "wants")}
        if self.lists is not None and {name: sorted(items) for name, items in told.items()} != self.lists:
            self.load.find(f"{self.name}: {told} was read, and {self.lists} was acknowledged")
        if user["username"] != self.name:
            self.load.find(f"{self.name}: the account of {user['username']} was read")
        self.lists = {name: sorted(items) for name, items in told.items()}

    def change(self):
        name, item = random.choice(("cellar", "wants")), random.randint(1, 100)
        method = random.choice(("PUT", "DELETE"))
        status, told, _ = self.load.send(self.client, method, f"/api/user/{name}/{item}", token=self.token)
        if status != 200:
            return self.load.find(f"{self.name}: {method} {name} was {status}: {told}")
        items = set(self.lists[name]) | {item} if method == "PUT" else set(self.lists[name]) - {item}
        self.lists[name] = sorted(items)
        self.load.count("change that was acknowledged")
        if told != self.lists[name]:
            self.load.find(f"{self.name}: {method} {name}/{item} answered {told}, not {self.lists[name]}")


class Visitor:
    """Logs in with the password, reads, and logs out: the token must then have ended for good."""

    def __init__(self, load, name, password, _token):
        self.load, self.name, self.password = load, name, password
        self.client = load.client()

    def step(self):
        body = {"username": self.name, "password": self.password}
        status, told, _ = self.load.send(self.client, "POST", "/api/login", body)
        if status != 200:
            self.load.find(f"{self.name}: the login was {status}: {told}")
            return time.sleep(1)
        token = told["token"]
        self.load.count("login")
        for _ in range(5):
            status, user, _ = self.load.send(self.client, "GET", "/api/user", token=token)
            if status != 200:
                self.load.find(f"{self.name}: GET with a token of a moment ago was {status}: {user}")
            time.sleep(0.1)
        status, told, sent_twice = self.load.send(self.client, "POST", "/api/logout", token=token)
        # Where the first answer did not come, the token may have ended by that request.
        if status != 200 and not (sent_twice and status == 401):
            return self.load.find(f"{self.name}: the logout was {status}: {told}")
        self.load.count("logout")
        with self.load.lock:
            self.load.ended.append((self.name, token))
        status, told, _ = self.load.send(self.client, "GET", "/api/user", token=token)
        if status != 401:
            self.load.find(f"{self.name}: GET with a token that has ended was {status}")
        # No faster than [rate_limit] allows.
        time.sleep(1.5)


class Newcomer:
    """Registers one account after the other, each from an address of its own."""

    def __init__(self, load):
        self.load, self.number = load, 0

    def step(self):
        self.number += 1
        client, name, password = self.load.client(), f"Newcomer{self.number}", f"Zweigelt {random.random()}"
        body = {"username": name, "password": password}
        status, told, _ = self.load.send(client, "POST", "/api/register", body)
        if status != 201:
            return self.load.find(f"{name}: the registration was {status}: {told}")
        self.load.count("registration")
        with self.load.lock:
            self.load.registered.append((name, password, told["token"]))
        status, told, _ = self.load.send(client, "GET", "/api/user", token=told["token"])
        if status != 200:
            self.load.find(f"{name}: GET with a token of a moment ago was {status}: {told}")
        client.close()
        time.sleep(1)
