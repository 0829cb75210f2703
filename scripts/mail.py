"""Sends mail by a real mail server, and reads each message strictly. scripts/mail calls it."""

import atexit
import email
import email.policy
import http.client
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import warnings
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

# What aiosmtpd thinks of its settings here: its library does not see that its port speaks TLS alone.
warnings.simplefilter("ignore")
logging.getLogger("mail.log").setLevel(logging.CRITICAL)

binary = sys.argv[1]
work = Path.cwd()
USER, PASSWORD = "authtokens", "correct horse battery staple"


class Mailbox:
    """Takes every mail, as bytes with its envelope."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Ok: queued"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def authenticate(server, session, envelope, mechanism, data):
    is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(work / "server.pem", work / "server.key")
    return made


class Implicit(Controller):
    """TLS from the first byte on."""

    def factory(self):
        return SMTP(self.handler, authenticator=authenticate, auth_required=True, auth_require_tls=False,
                    hostname="localhost")


class StartTls(Controller):
    """TLS after STARTTLS, and nothing without it."""

    def factory(self):
        return SMTP(self.handler, authenticator=authenticate, auth_required=True, require_starttls=True,
                    tls_context=context(), hostname="localhost")


def settings(tls, port, **more):
    return os.environ | {
        "AUTHTOKENS_CONFIG": "/dev/null",
        "AUTHTOKENS__DATABASE__PATH": str(work / tls / "authtokens.db"),
        "AUTHTOKENS__PASSWORD__BCRYPT_COST": "4",
        "AUTHTOKENS__SERVER__PUBLIC_URL": "https://diamond.example",
        "AUTHTOKENS__MAIL__TRANSPORT": "smtp",
        "AUTHTOKENS__MAIL__FROM": "Größe & Söhne <noreply@diamond.example>",
        "AUTHTOKENS__MAIL__SMTP__HOST": "localhost",
        "AUTHTOKENS__MAIL__SMTP__PORT": str(port),
        "AUTHTOKENS__MAIL__SMTP__TLS": tls,
        "AUTHTOKENS__MAIL__SMTP__CA_FILE": str(work / "ca.pem"),
        "AUTHTOKENS__MAIL__SMTP__USER": USER,
        "AUTHTOKENS__MAIL__SMTP__PASSWORD": PASSWORD,
        "AUTHTOKENS__RATE_LIMIT__ENABLED": "false",
    } | more


def command(arguments, environment, code=0):
    done = subprocess.run([binary, *arguments.split()], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stderr


def read(mail):
    """Parses a message by the strictest rules that Python has, and checks what every mail must have."""
    sender, recipients, content = mail
    assert content.isascii() and max(map(len, content.split(b"\r\n"))) <= 78
    assert b"\n" not in content.replace(b"\r\n", b"") and b"\r" not in content.replace(b"\r\n", b"")
    message = email.message_from_bytes(content, policy=email.policy.default.clone(raise_on_defect=True))
    parts = list(message.walk())
    for part in parts:
        assert not part.defects and not any(value.defects for value in part.values()), part.defects
    assert [part.get_content_type() for part in parts] == ["multipart/alternative", "text/plain", "text/html"]
    assert sender == "noreply@diamond.example"
    assert message["From"].addresses[0].display_name == "Größe & Söhne"
    assert [address.addr_spec for address in message["To"].addresses] == recipients
    assert re.fullmatch(r"<[0-9a-f]{32}@diamond\.example>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated" and message["Date"].datetime is not None
    assert len(message.keys()) == len(set(message.keys())) == 8, message.keys()
    text, html = (part.get_content() for part in parts[1:])
    assert "Größe & Söhne" in text and "Größe &amp; Söhne" in html
    return message, text, html


class Server:
    """The service, with a mail server."""

    def __init__(self, environment):
        self.log = open(work / "server.log", "w+")
        self.process = subprocess.Popen([binary, "--listen", "127.0.0.1:0"], stderr=self.log, env=environment)
        atexit.register(self.process.kill)
        deadline = time.monotonic() + 20
        while not (found := re.search(r"listens on http://127.0.0.1:(\d+)", self.said())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.port = int(found[1])

    def said(self):
        return (work / "server.log").read_text()

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, self.said()
        assert PASSWORD not in self.said()


def trial(name, controller):
    mailbox = controller.handler
    controller.start()
    port = controller.port
    environment = settings(name, port)
    command("config check --unit /dev/null", environment)

    said = command("mail test bob@diamond.example", environment)
    assert "was sent" in said, said
    message, _, _ = read(mailbox.mails.pop())
    assert message["Subject"] == "A test mail from Größe & Söhne"
    print(f"{name}: a test mail arrived, by {USER}, and is without a defect")

    wrong = settings(name, port, AUTHTOKENS__MAIL__SMTP__PASSWORD="another")
    told = command("mail test bob@diamond.example", wrong, code=1)
    assert "refuses the user and the password of mail.smtp: 535" in told, told
    for change, sentence in (
        ({"AUTHTOKENS__MAIL__SMTP__HOST": "127.0.0.1"}, "is for another name than 127.0.0.1"),
        ({"AUTHTOKENS__MAIL__SMTP__CA_FILE": str(work / "other.pem")}, "is by an authority that is not trusted"),
    ):
        told = command("mail test bob@diamond.example", environment | change, code=1)
        assert sentence in told, told
    assert not mailbox.mails
    print(f"{name}: a wrong password, a wrong name and a wrong authority are sentences, and nothing is sent")

    server = Server(environment)
    status, body = server.post("/api/register", {"username": "AzureDiamond", "password": "hunter2"})
    assert status == 201, body
    server.stop()
    controller.stop()


trial("tls", Implicit(Mailbox(), hostname="127.0.0.1", port=free_port(), ssl_context=context()))
trial("starttls", StartTls(Mailbox(), hostname="127.0.0.1", port=free_port()))
print("done")
