"""Sends mail by a real mail server, reads each message strictly, and uses what it opens. scripts/mail calls it."""

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
import urllib.parse
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
PATIENCE = 30
SERVICE = "Größe & Söhne"


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
        "AUTHTOKENS__ACCOUNTS__LOGIN_BY_MAIL": "true",
        "AUTHTOKENS__SERVER__PUBLIC_URL": "https://diamond.example",
        "AUTHTOKENS__MAIL__TRANSPORT": "smtp",
        "AUTHTOKENS__MAIL__FROM": f"{SERVICE} <noreply@diamond.example>",
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
    assert message["From"].addresses[0].display_name == SERVICE
    assert [address.addr_spec for address in message["To"].addresses] == recipients
    assert re.fullmatch(r"<[0-9a-f]{32}@diamond\.example>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated" and message["Date"].datetime is not None
    assert len(message.keys()) == len(set(message.keys())) == 8, message.keys()
    text, html = (part.get_content().replace("\r\n", "\n") for part in parts[1:])
    assert SERVICE in text and "Größe &amp; Söhne" in html
    return message, text, html


class Read:
    """A message as its reader has it: whom it is to, its subject, and what opens an account."""

    def __init__(self, mail):
        message, text, html = read(mail)
        self.to, self.subject = mail[1][0], message["Subject"]
        links = re.findall(r"https://diamond\.example/account/([a-z-]+)#([0-9a-f]{40})$", text, re.M)
        codes = re.findall(r"^    (\d{3}) (\d{3})$", text, re.M)
        assert len(links) <= 1 and len(codes) <= 1, text
        self.page, self.token = links[0] if links else (None, None)
        self.code = "".join(codes[0]) if codes else None
        # Both parts show the same.
        assert self.token is None or f"https://diamond.example/account/{self.page}#{self.token}" in html, html
        assert self.code is None or " ".join(codes[0]) in html, html
        for secret in (self.code, self.token):
            assert secret is None or secret not in self.subject.replace(" ", "")


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

    def send(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def call(self, method, path, body=None, token=None, status=200):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
        got, answer = self.send(method, path, json.dumps(body) if body else None, headers)
        assert got == status, (method, path, got, answer)
        return json.loads(answer)

    def press(self, page, proof):
        """Sends the form of a page, as a browser without scripts does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, html = self.send("POST", f"/account/{page}", urllib.parse.urlencode({"proof": proof}), headers)
        assert status == 200, html
        return html

    def log_in(self, username, password, status=200):
        return self.call("POST", "/api/login", {"username": username, "password": password}, status=status)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.said()
        assert PASSWORD not in self.said()


def ways(name, server, mailbox):
    """Every way that a mail opens. Each has an account of its own: a mailbox may have one mail a minute."""
    secrets = []

    def mail(to, subject):
        """Takes the mail of this subject out of the mailbox."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for taken in list(mailbox.mails):
                found = Read(taken)
                if (found.to, found.subject) == (to, subject):
                    mailbox.mails.remove(taken)
                    secrets.extend(filter(None, (found.code, found.token)))
                    return found
            assert time.monotonic() < deadline, (to, subject, server.said())
            time.sleep(0.02)

    def owner(username):
        email = f"{username}@diamond.example"
        body = {"username": username, "password": "hunter2", "email": email}
        token = server.call("POST", "/api/register", body, status=201)["token"]
        found = mail(email, f"Confirm your address for {SERVICE}")
        assert found.page == "confirm" and found.code
        server.call("POST", "/api/user/email/confirm", {"code": found.code}, token)
        shown = server.call("GET", "/api/user/email", token=token)
        assert shown == {"email": email, "verified": True, "pending": None}, shown
        return email, token

    def ends(token):
        server.call("GET", "/api/user", token=token, status=401)

    def forgotten(email):
        request = server.call("POST", "/api/password/forgot", {"email": email}, status=202)["request"]
        return request, mail(email, f"Your new password for {SERVICE}")

    owner("azure")
    print(f"{name}: a registration is confirmed by its code")

    for username, is_by_code in (("code", True), ("link", False)):
        email, token = owner(username)
        request, found = forgotten(email)
        assert found.page == "reset" and found.code and found.token
        proof = {"request": request, "code": found.code} if is_by_code else {"token": found.token}
        server.call("POST", "/api/password/reset", proof | {"new_password": "mine again"})
        other = {"token": found.token} if is_by_code else {"request": request, "code": found.code}
        server.call("POST", "/api/password/reset", other | {"new_password": "another"}, status=400)
        ends(token)
        server.log_in(username, "hunter2", status=401)
        server.log_in(username, "mine again")
        notice = mail(email, f"Your password for {SERVICE} was reset")
        assert notice.page == "not-me" and notice.code is None
    print(f"{name}: a forgotten password is reset by the code and by the link, and using one ends the other")

    for username, is_by_code in (("bob", True), ("eve", False)):
        email, _ = owner(username)
        request = server.call("POST", "/api/login/mail", {"email": email}, status=202)["request"]
        found = mail(email, f"Log in to {SERVICE}")
        proof = {"request": request, "code": found.code} if is_by_code else {"token": found.token}
        opened = server.call("POST", "/api/login/mail/confirm", proof)
        assert server.call("GET", "/api/user", token=opened["token"])["username"] == username
    print(f"{name}: a mail logs in, by its code and by its link")

    email, token = owner("fresh")
    request = server.call("POST", "/api/user/reauthenticate/mail", token=token, status=202)["request"]
    found = mail(email, f"Your code for {SERVICE}")
    assert found.code and found.token is None
    server.call("POST", "/api/user/reauthenticate", {"request": request, "code": found.code}, token)
    print(f"{name}: a mailed code makes a session fresh")

    email, token = owner("moved")
    new = "elsewhere@diamond.example"
    server.call("POST", "/api/user/email", {"email": new, "password": "hunter2"}, token, status=202)
    asked = mail(email, f"Another address is wanted for your account at {SERVICE}")
    found = mail(new, f"Confirm your address for {SERVICE}")
    assert asked.page == "not-me" and found.page == "confirm"
    server.call("POST", "/api/email/confirm", {"token": found.token})
    assert server.call("GET", "/api/user/email", token=token)["email"] == new
    changed = mail(email, f"Your address at {SERVICE} was changed")
    print(f"{name}: an address is changed by the link to the new one, and the former one hears of it twice")

    assert changed.page == "not-me"
    html = server.press("not-me", f"https://diamond.example/account/not-me#{changed.token}")
    assert "nobody can log in with the old password any more" in html, html
    ends(token)
    server.log_in("moved", "hunter2", status=401)
    found = mail(email, f"Your new password for {SERVICE}")
    assert found.page == "reset" and found.code is None
    server.call("POST", "/api/password/reset", {"token": found.token, "new_password": "mine again"})
    mail(email, f"Your password for {SERVICE} was reset")
    token = server.log_in("moved", "mine again")["token"]
    assert server.call("GET", "/api/user/email", token=token)["email"] == email
    print(f"{name}: \"this was not me\" brings the address back, ends sessions and password, and mails a reset")

    said = server.said()
    assert not [secret for secret in secrets if len(secret) > 6 and secret in said], said


def trial(name, controller):
    mailbox = controller.handler
    controller.start()
    port = controller.port
    environment = settings(name, port)
    command("config check --unit /dev/null", environment)

    said = command("mail test bob@diamond.example", environment)
    assert "was sent" in said, said
    message, _, _ = read(mailbox.mails.pop())
    assert message["Subject"] == f"A test mail from {SERVICE}"
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
    ways(name, server, mailbox)
    server.stop()
    assert not mailbox.mails, [Read(mail).subject for mail in mailbox.mails]
    controller.stop()


trial("tls", Implicit(Mailbox(), hostname="127.0.0.1", port=free_port(), ssl_context=context()))
trial("starttls", StartTls(Mailbox(), hostname="127.0.0.1", port=free_port()))
print("done")
