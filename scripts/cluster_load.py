"""The load of scripts/cluster, and its journal: what was acknowledged, and what was ended.

Writers go through the balancer. Each lives through one account after the other: it registers, logs in, fills a list,
logs out, revokes, changes its password. Checkers ask both copies directly, without a pause, about tokens that are live,
that are just being revoked, and that were. Whatever contradicts the journal is a finding.

A time is noted before a request is sent and after its answer is read, so a finding cannot be an error of measurement.
"""

import asyncio
import collections
import hashlib
import json
import random
import threading
import time

# How long a client waits for an answer. It is longer than the service takes to give up.
PATIENCE = 30


class Cut(Exception):
    """The connection ended before the answer was there. `sent` tells whether the request may have arrived."""

    def __init__(self, sent):
        super().__init__("sent" if sent else "not sent")
        self.sent = sent


class Client:
    """A connection that is kept and made anew, and that never sends a request twice."""

    def __init__(self, port):
        self.port, self.streams = port, None

    async def ask(self, method, path, body=None, token=None):
        sent = False
        try:
            async with asyncio.timeout(PATIENCE):
                if self.streams is None or self.streams[0].at_eof():
                    self.close()
                    self.streams = await asyncio.open_connection("127.0.0.1", self.port)
                reader, writer = self.streams
                text = b"" if body is None else json.dumps(body).encode()
                head = f"{method} {path} HTTP/1.1\r\nHost: authtokens\r\n"
                head += f"Authorization: Token {token}\r\n" if token else ""
                head += "Content-Type: application/json\r\n" if body is not None else ""
                head += f"Content-Length: {len(text)}\r\n" if method != "GET" else ""
                sent = True
                writer.write(f"{head}\r\n".encode() + text)
                answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                status = int(answer.split(" ", 2)[1])
                length = int(answer.split("content-length:", 1)[1].split("\r\n", 1)[0])
                text = await reader.readexactly(length)
                if "\r\nconnection: close" in answer:
                    self.close()
                return status, json.loads(text) if status < 500 else None
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
            self.close()
            raise Cut(sent) from error

    def close(self):
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


class Token:
    """A token whose login was acknowledged."""

    __slots__ = ("text", "account", "is_ending", "ended_at")

    def __init__(self, text, account):
        self.text, self.account = text, account
        # Whether a request that ends it was sent, and when the first one was acknowledged.
        self.is_ending, self.ended_at = False, None


class Account:
    """An account, and what is known about it."""

    def __init__(self, name):
        # Several passwords are possible where the outcome of a change is not known.
        self.name, self.passwords = name, ["hunter2"]
        self.exists, self.tokens = None, []
        # True and False are acknowledged; None is not known.
        self.cellar = {}


class Journal:
    """What all clients were told."""

    def __init__(self):
        self.accounts, self.written, self.revoked_at, self.findings = [], [], [], collections.Counter()
        self.examples, self.statuses = collections.defaultdict(list), collections.Counter()
        self.unknown = self.checks = self.cut = 0
        # The tokens of accounts that are in use, and those that have just ended.
        self.hot, self.ended = {}, collections.deque(maxlen=64)
        self.old = []

    def found(self, what, example):
        self.findings[what] += 1
        self.examples[what].append(example)

    def gap(self, began, ended):
        """The longest time without an acknowledged write."""
        times = [began, *sorted(self.written), ended]
        return max(later - earlier for earlier, later in zip(times, times[1:]))


class Load:
    """Clients, on a thread of their own, until they are stopped."""

    def __init__(self, balancer, copies, prefix, writers=24, checkers=8):
        self.balancer, self.copies, self.prefix = balancer, copies, prefix
        self.writers, self.checkers = writers, checkers
        self.journal, self.is_over, self.numbers, self.failure = Journal(), False, iter(range(10**9)), None
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        async def work():
            async with asyncio.TaskGroup() as group:
                for _ in range(self.writers):
                    group.create_task(self.writer())
                for port in self.copies:
                    for _ in range(self.checkers):
                        group.create_task(self.checker(port))
        try:
            asyncio.run(work())
        except BaseException as error:
            self.failure = error

    def stop(self):
        self.stopped = time.monotonic()
        self.is_over = True
        self.thread.join()
        if self.failure:
            raise self.failure
        return self.journal

    async def write(self, client, expected, method, path, body=None, token=None):
        """Sends a write. `(True, answer)` where it was acknowledged, `(None, None)` where its outcome is not known."""
        try:
            status, answer = await client.ask(method, path, body, token)
        except Cut as cut:
            self.journal.cut += 1
            self.journal.unknown += cut.sent
            await asyncio.sleep(0.2)
            return None, None
        self.journal.statuses[status] += 1
        if status == expected:
            self.journal.written.append(time.monotonic())
            return True, answer
        if status >= 500:
            self.journal.unknown += 1
            await asyncio.sleep(0.2)
            return None, None
        return status, answer

    def new_token(self, account, text):
        token = Token(text, account)
        account.tokens.append(token)
        self.journal.hot[text] = token
        return token

    def end(self, tokens):
        """Their end was acknowledged."""
        now = time.monotonic()
        for token in tokens:
            token.ended_at = now
            self.journal.revoked_at.append(now)
            self.journal.ended.append(token)

    async def writer(self):
        client, rng = Client(self.balancer), random.Random()
        while not self.is_over:
            account = Account(f"{self.prefix}{next(self.numbers)}")
            self.journal.accounts.append(account)
            try:
                await self.live(client, rng, account)
            finally:
                for token in account.tokens:
                    self.journal.hot.pop(token.text, None)
                    if token.ended_at is not None:
                        self.journal.old.append(token)

    async def live(self, client, rng, account):
        body = {"username": account.name, "password": account.passwords[0]}
        done, answer = await self.write(client, 201, "POST", "/api/register", body)
        if done is not True:
            if done is not None:
                self.journal.found("refused", f"registration of {account.name}: {done} {answer}")
            return
        account.exists = True
        first = self.new_token(account, answer["token"])
        for _ in range(rng.randint(2, 4)):
            await self.log_in(client, account)
        steps = [self.add] * 4 + [self.remove] * 2 + [self.log_out, self.revoke, self.log_in, self.change_password]
        rng.shuffle(steps)
        for step in steps:
            if self.is_over:
                return
            live = [token for token in account.tokens if not token.is_ending]
            if step == self.log_in or len(live) < 2:
                await self.log_in(client, account)
            else:
                # The first one stays, so that the account can be read at the end.
                await step(client, account, rng.choice([token for token in live if token is not first]), first, rng)
            await asyncio.sleep(rng.uniform(0, 0.02))
        if rng.random() < 0.2:
            await self.end_by(client, account.tokens, "POST", "/api/logoutall", first)

    async def log_in(self, client, account):
        if len(account.passwords) > 1:
            return
        body = {"username": account.name, "password": account.passwords[0]}
        done, answer = await self.write(client, 200, "POST", "/api/login", body)
        if done is True:
            self.new_token(account, answer["token"])
        elif done is not None:
            self.journal.found("lost", f"login of {account.name}: {done} {answer}")

    def told(self, done, answer, what, token):
        """Notes a refusal that contradicts the journal."""
        if done is not True and done is not None and not token.is_ending:
            kind = "lost" if done == 401 else "refused"
            self.journal.found(kind, f"{what} of {token.account.name}: {done} {answer}")

    async def add(self, client, account, token, _, rng):
        await self.change_item(client, account, token, "PUT", rng.randint(1, 10**6), True)

    async def remove(self, client, account, token, _, rng):
        if account.cellar:
            await self.change_item(client, account, token, "DELETE", rng.choice(list(account.cellar)), False)

    async def change_item(self, client, account, token, method, item, is_there):
        before = account.cellar.get(item, False)
        account.cellar[item] = None
        done, answer = await self.write(client, 200, method, f"/api/user/cellar/{item}", None, token.text)
        if done is True:
            account.cellar[item] = is_there
            known = {item for item, is_there in account.cellar.items() if is_there}
            if missing := known - set(answer):
                self.journal.found("lost", f"items of {account.name}: {missing}")
        elif done is not None:
            account.cellar[item] = before
            self.told(done, answer, method, token)

    async def end_by(self, client, tokens, method, path, by):
        """Ends tokens with a call that `by` makes, again where its outcome is not known."""
        tokens = [token for token in tokens if token.ended_at is None]
        for token in tokens:
            token.is_ending = True
        for attempt in range(3):
            done, answer = await self.write(client, 200, method, path, None, by.text)
            if done is True:
                return self.end(tokens)
            if done is not None:
                # After an unknown outcome this says that it was done.
                if attempt == 0:
                    self.journal.found("lost" if done == 401 else "refused", f"{path}: {done} {answer}")
                return

    async def log_out(self, client, account, token, _, rng):
        await self.end_by(client, [token], "POST", "/api/logout", token)

    async def revoke(self, client, account, token, first, rng):
        try:
            status, answer = await client.ask("GET", "/api/user/tokens", None, token.text)
        except Cut:
            return
        if status == 200:
            session = next(session["id"] for session in answer if session["current"])
            await self.end_by(client, [token], "DELETE", f"/api/user/tokens/{session}", first)

    async def change_password(self, client, account, token, first, rng):
        if len(account.passwords) > 1:
            return
        old, new = account.passwords[0], f"hunter{rng.randint(3, 10**9)}"
        account.passwords = [old, new]
        others = [token for token in account.tokens if token is not first and token.ended_at is None]
        for other in others:
            other.is_ending = True
        body = {"current_password": old, "new_password": new}
        done, answer = await self.write(client, 200, "POST", "/api/user/password", body, first.text)
        if done is True:
            account.passwords = [new]
            self.end(others)
        elif done is not None:
            account.passwords = [old]
            self.told(done, answer, "password", first)

    async def checker(self, port):
        client, rng, journal = Client(port), random.Random(), self.journal
        while not self.is_over:
            choice = rng.random()
            if choice < 0.4 and journal.ended:
                token = rng.choice(journal.ended)
            elif choice < 0.45 and journal.old:
                token = rng.choice(journal.old)
            elif journal.hot:
                token = rng.choice(list(journal.hot.values()))
            else:
                await asyncio.sleep(0.01)
                continue
            began, had_ended = time.monotonic(), token.ended_at is not None
            try:
                status, _ = await client.ask("GET", "/api/user", None, token.text)
            except Cut:
                await asyncio.sleep(0.1)
                continue
            journal.checks += 1
            if status == 200 and had_ended:
                late = began - token.ended_at
                journal.found("accepted", f"a token of {token.account.name} on {port}, {late:.3f} s after its end")
            elif status == 401 and not token.is_ending:
                journal.found("lost", f"a live token of {token.account.name} on {port}")
            elif status >= 500:
                await asyncio.sleep(0.05)
            await asyncio.sleep(rng.uniform(0, 0.005))


def digest(token):
    return hashlib.sha256(token.text.encode()).hexdigest()


def verify_rows(journal, users, tokens, items):
    """Compares the journal with the rows of the database: names, digests, and pairs of a name and an item."""
    users, tokens, items = set(users), set(tokens), set(items)
    for account in journal.accounts:
        if account.exists and account.name not in users:
            journal.found("lost", f"SQL: account {account.name}")
        for token in account.tokens:
            if not token.is_ending and digest(token) not in tokens:
                journal.found("lost", f"SQL: a token of {account.name}")
            if token.ended_at is not None and digest(token) in tokens:
                journal.found("lost", f"SQL: the end of a token of {account.name}")
        for item, is_there in account.cellar.items():
            if is_there is not None and is_there != (f"{account.name}|{item}" in items):
                journal.found("lost", f"SQL: item {item} of {account.name}: {is_there}")


def verify_api(journal, copies, logins=300, ended=2000):
    """Reads everything back from all copies, which must agree on what is not known, too."""
    rng = random.Random(1)
    jobs = collections.deque()

    async def read(clients, account, token):
        """The items, by each copy; whether the token is accepted where its end is not known."""
        told = [await client.ask("GET", "/api/user", None, token.text) for client in clients]
        if len({status for status, _ in told}) > 1 or len({str(sorted(user.get("cellar", []))) for _, user in told}) > 1:
            journal.found("split", f"{account.name}: {told}")
        status, user = told[0]
        if token.ended_at is not None and status != 401:
            journal.found("accepted", f"a token of {account.name} at the end")
        if not token.is_ending and status != 200:
            journal.found("lost", f"API: a token of {account.name}: {status}")
        if status == 200:
            for item, is_there in account.cellar.items():
                if is_there is not None and is_there != (item in user["cellar"]):
                    journal.found("lost", f"API: item {item} of {account.name}: {is_there}")

    async def log_in(clients, account):
        """Exactly one of the possible passwords opens the account."""
        client, opened = rng.choice(clients), 0
        for password in account.passwords:
            status, _ = await client.ask("POST", "/api/login", {"username": account.name, "password": password})
            opened += status == 200
        if opened != 1:
            journal.found("lost", f"API: {opened} passwords of {account.name} work, of {len(account.passwords)}")

    existing = [account for account in journal.accounts if account.exists]
    unknown = [account for account in existing if len(account.passwords) > 1]
    for account in existing:
        kept = [token for token in account.tokens if token.ended_at is None]
        jobs.extend((read, account, token) for token in (kept if account in unknown else kept[:2]))
    over = [token for account in existing for token in account.tokens if token.ended_at is not None]
    jobs.extend((read, token.account, token) for token in rng.sample(over, min(ended, len(over))))
    settled = [account for account in existing if len(account.passwords) == 1]
    jobs.extend((log_in, account) for account in unknown + rng.sample(settled, min(logins, len(settled))))

    async def worker():
        clients = [Client(port) for port in copies]
        while jobs:
            job, *arguments = jobs.popleft()
            await job(clients, *arguments)

    async def work():
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(worker())

    asyncio.run(work())
