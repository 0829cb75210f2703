"""What scripts/mail-kill and scripts/mail-flood share: the service on a port of its own, and a mail server that keeps what
it is sent, and can be slow or say nothing."""

import asyncio
import atexit
import collections
import email
import email.policy
import http.client
import json
import os
import pathlib
import random
import re
import subprocess
import threading
import time

PATIENCE = 60
started = []
# Where a check fails, nothing is left running. What has ended already is killed in vain.
atexit.register(lambda: [process.kill() for process in started])

Mail = collections.namedtuple("Mail", "kind to token")


class MailServer:
    """Takes every mail, in clear. A kind is known by where a mail's link leads."""

    def __init__(self, longest_delay=0.0):
        self.longest_delay, self.is_hanging = longest_delay, False
        self.mails, self.held, self.lock = [], set(), threading.Lock()
        listening = threading.Event()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.serve, args=(listening,), daemon=True).start()
        assert listening.wait(PATIENCE)

    def serve(self, listening):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.talk, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        self.loop.run_forever()

    async def talk(self, reader, writer):
        if self.is_hanging:
            self.held.add(writer)
            return
        try:
            await self.say(writer, "220 localhost ESMTP")
            while line := (await reader.readline()).decode():
                command = line.split()[0].upper() if line.split() else ""
                if command == "RCPT":
                    to = re.search("<(.*)>", line)[1]
                if command == "DATA":
                    await self.say(writer, "354 Go on")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    await self.pause()
                    # From here on it is taken, whether or not anybody hears of it.
                    self.take(to, content)
                await self.say(writer, "221 Bye" if command == "QUIT" else "250 Ok")
                if command == "QUIT":
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def pause(self):
        await asyncio.sleep(random.uniform(0, self.longest_delay))

    async def say(self, writer, reply):
        await self.pause()
        writer.write(reply.encode() + b"\r\n")
        await writer.drain()

    def take(self, to, content):
        message = email.message_from_bytes(content, policy=email.policy.default)
        text = message.get_body(("plain",)).get_content()
        link = re.search(r"/account/([a-z-]+)#([0-9a-f]{40})", text)
        with self.lock:
            self.mails.append(Mail(link[1] if link else "none", to, link[2] if link else None))

    def hang(self, is_hanging):
        """From the next connection on; those that hang are closed where it is over."""
        self.is_hanging = is_hanging
        if not is_hanging:
            self.loop.call_soon_threadsafe(lambda: [writer.close() for writer in self.held])

    def sent(self):
        with self.lock:
            return list(self.mails)


class Service:
    """The service, with a file in `folder`, that sends mail by `mail_server`."""

    def __init__(self, binary, folder, mail_server, **settings):
        self.log = pathlib.Path(folder, "log")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHTOKENS_")}
        environment |= {
            "AUTHTOKENS_CONFIG": "/dev/null",
            "RUST_LOG": "warn",
            "AUTHTOKENS__PASSWORD__BCRYPT_COST": "4",
            # All of it comes from one address.
            "AUTHTOKENS__RATE_LIMIT__ENABLED": "false",
            "AUTHTOKENS__SERVER__PUBLIC_URL": "https://diamond.example",
            "AUTHTOKENS__METRICS__LISTEN": "127.0.0.1:0",
            "AUTHTOKENS__MAIL__TRANSPORT": "smtp",
            "AUTHTOKENS__MAIL__FROM": "noreply@diamond.example",
            "AUTHTOKENS__MAIL__LIMIT": "1000000 per 1s",
            "AUTHTOKENS__MAIL__SMTP__HOST": "127.0.0.1",
            "AUTHTOKENS__MAIL__SMTP__PORT": str(mail_server.port),
            "AUTHTOKENS__MAIL__SMTP__TLS": "none",
        } | settings
        command = [binary, "--listen", "127.0.0.1:0", "--database", f"{folder}/authtokens.db"]
        began = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)
        started.append(self.process)
        said = lambda: self.log.read_text()[began:]
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"listens on http://127.0.0.1:(\d+)", said())):
            assert self.process.poll() is None and time.monotonic() < deadline, said()
            time.sleep(0.01)
        self.port = int(found[1])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()


def call(connection, method, path, body=None, token=None):
    """The status and the body as it came."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    return response.status, response.read()


def until(what, happened):
    deadline = time.monotonic() + PATIENCE
    while not (value := happened()):
        assert time.monotonic() < deadline, f"{what} does not happen"
        time.sleep(0.01)
    return value
