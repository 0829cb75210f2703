"""Uses the service through a proxy that speaks TLS, as a client at 127.0.0.2. scripts/proxies calls it."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

name, tls_port, plain_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Not the proxy's own address, so that the two can be told apart.
CLIENT = "127.0.0.2"
CONTEXT = ssl.create_default_context(cafile=os.environ["CERTIFICATE"])
PASSWORD = "hunter2"
ERRORS = {"access-control-allow-origin": "*", "access-control-allow-headers": "Content-Type, Authorization",
          "x-content-type-options": "nosniff", "content-type": "application/json"}
API = ERRORS | {"cache-control": "no-store", "strict-transport-security": "max-age=31536000"}


def connect():
    return http.client.HTTPSConnection("localhost", tls_port, timeout=20, source_address=(CLIENT, 0), context=CONTEXT)


def ask(method, path, body=None, token=None, headers=(), connection=None):
    """The status, the headers in lower case, and the body."""
    connection = connection or connect()
    connection.putrequest(method, path)
    if token:
        connection.putheader("Authorization", f"Token {token}")
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
    for header in headers:
        connection.putheader(*header)
    connection.endheaders()
    try:
        if body:
            connection.send(body)
    except OSError:
        pass  # refused before it was all sent; the answer says why
    response = connection.getresponse()
    text = response.read()
    found = {}
    for key, value in response.getheaders():
        assert key.lower() not in found or key.lower() == "vary", f"{key} is sent twice"
        found[key.lower()] = value
    return response.status, found, text


def expect(answer, status, headers=(), what=""):
    found_status, found, text = answer
    assert found_status == status, f"{what}: {found_status} and not {status}: {found} {text[:300]}"
    for key, value in dict(headers).items():
        assert found.get(key) == value, f"{what}: {key} is {found.get(key)!r} and not {value!r}"
    return json.loads(text) if text else None


def expect_error(answer, status, headers=ERRORS, what=""):
    error = expect(answer, status, headers, what)
    assert list(error) == ["error"] and isinstance(error["error"], str), error
    return answer[1]


def done(what):
    print(f"{name}: {what}")


deadline = time.monotonic() + 10
while True:
    try:
        socket.create_connection(("127.0.0.1", tls_port)).close()
        break
    except ConnectionRefusedError:
        assert time.monotonic() < deadline, f"{name} did not start"
        time.sleep(0.05)

if "--service-is-gone" in sys.argv:
    for method, path in (("GET", "/api/user"), ("POST", "/api/login")):
        headers = expect_error(ask(method, path, headers=[("Content-Length", "0")]), 503, API)
        assert headers["retry-after"] == "1", headers
    done("the service is gone: 503 in its form, with Retry-After")
    sys.exit()

# HTTP/2, and plain HTTP that leads to it.
curl = ["curl", "-sS", "-o", os.devnull, "--cacert", os.environ["CERTIFICATE"], "--interface", CLIENT]
said = subprocess.run([*curl, "--http2", "-w", "%{http_version} %{http_code}", f"https://localhost:{tls_port}/"],
                      check=True, capture_output=True, text=True).stdout
assert said == "2 200", said
said = subprocess.run([*curl, "-w", "%{http_code} %{redirect_url}", f"http://localhost:{plain_port}/api/login"],
                      check=True, capture_output=True, text=True).stdout
assert said.split()[0] == "308" and said.split()[1].startswith("https://localhost"), said
done("HTTP/2 over TLS; plain HTTP is sent there")

# Register, log in, use, with and without a trailing slash, on one connection.
connection = connect()
user = f"user.{name}"
account = {"username": user, "password": PASSWORD}
forged = [
    [("X-Forwarded-For", "1.2.3.4")],
    [("X-Forwarded-For", "1.2.3.4, 127.0.0.1")],
    [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "127.0.0.1")],
    [("x-forwarded-for", "::1"), ("X-Real-IP", "1.2.3.4"), ("Forwarded", "for=1.2.3.4")],
    # Named as hop-by-hop, for a proxy that would then drop its own.
    [("X-Forwarded-For", "1.2.3.4"), ("Connection", "X-Forwarded-For")],
]
answer = expect(ask("POST", "/api/register", account, headers=forged[0], connection=connection), 201, API)
assert list(answer) == ["token", "user"]
for slash, headers in zip(["", "/"] * 3, [*forged, []]):
    answer = expect(ask("POST", f"/api/login{slash}", account, headers=headers), 200, API)
token = answer["token"]
for path in ("/api/user", "/api/user/"):
    response = ask("GET", path, token=token, connection=connection)
    assert expect(response, 200, API)["username"] == user
    assert len(response[1]["x-request-id"]) > 8
sessions = expect(ask("GET", "/api/user/tokens", token=token), 200, API)
assert len(sessions) == 7 and {session["ip"] for session in sessions} == {CLIENT}, sessions
done(f"{len(sessions)} sessions, every ip is {CLIENT}, whatever the client wrote into X-Forwarded-For")

# What a page in a browser needs.
preflight = ask("OPTIONS", "/api/user/cellar/1/", headers=[
    ("Origin", "https://app.example.org"), ("Access-Control-Request-Method", "PUT"),
    ("Access-Control-Request-Headers", "authorization,content-type")])
assert preflight[0] in (200, 204), preflight
assert "PUT" in preflight[1]["access-control-allow-methods"] and preflight[1]["access-control-max-age"] == "86400"
assert preflight[1]["access-control-allow-origin"] == "*"
status, headers, text = ask("HEAD", "/healthz")
length = len(ask("GET", "/healthz")[2])
assert (status, text, headers["content-length"]) == (200, b"", str(length)), (status, headers)
done("preflight and HEAD")

# What goes wrong keeps its form, whoever says so.
expect_error(ask("GET", "/api/nothing"), 404, API)
assert expect_error(ask("GET", "/api/login"), 405, API)["allow"]
assert expect_error(ask("GET", "/api/user", token="0" * 40), 401, API)["www-authenticate"] == "Token"
expect_error(ask("POST", "/api/login", b"[" * 1000), 400, API)
expect_error(ask("POST", "/api/login", b"x" * (1024 * 1024 + 1)), 413, API, "the service's limit")
for size in (3, 20) * 5:
    expect_error(ask("POST", "/api/login", b"x" * (size * 1024 * 1024)), 413, API, f"{size} MiB")
expect_error(ask("PATCH", "/api/user", b"x" * (1024 * 1024)), 401, API, "a stranger's large body")
expect_error(ask("GET", "/api/user", headers=[("X-Long", "x" * 20_000)]), 401, API, "a long head that may be")
expect_error(ask("GET", "/api/user", headers=[("X-Long", "x" * 50_000)]), 431, {}, "a longer one")
ways = ["", "/", "/x", "?x"]
for path in [f"/metrics{way}" for way in ways] + ["//metrics", "/%6detrics", "/./metrics", "/a/../metrics"]:
    headers = expect_error(ask("GET", path), 404, API, path)
    assert "x-request-id" not in headers, f"{path} reached the service"
done("404, 405, 401, 400, 413, 431 in the service's form; no /metrics")

# What no client should send, and what its library would not.
MALFORMED = [
    (b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 404)),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 404)),
    (b"GET nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    (b"G?T / HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    (b"GET / HTTP/1.1\r\n\r\n", (400,)),
    (b"GET / HTTP/7.7\r\nHost: localhost\r\n\r\n", (400, 505)),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", (400,)),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n", (200, 400)),
    (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 404, 405)),
    (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 405)),
    (b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", (400,)),
    (b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", (400, 501)),
    (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (431,)),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"n" * 40_000 + b": x\r\n\r\n", (431,)),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"n" * 65_536 + b": x\r\n\r\n", (431,)),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Some: v\r\n" * 20_000 + b"\r\n", (431,)),
]
# Go's server answers these by itself, in plain text and before Caddy sees them.
PLAIN = {"caddy": (400, 431, 501, 505)}.get(name, ())
for request, statuses in MALFORMED:
    raw = CONTEXT.wrap_socket(socket.create_connection(("localhost", tls_port), 20), server_hostname="localhost")
    try:
        raw.sendall(request)
    except OSError:
        pass  # refused before it was all sent
    response = http.client.HTTPResponse(raw)
    response.begin()
    text = response.read()
    what = f"{request[:60]!r}: {response.status} {text[:200]!r}"
    assert response.status in statuses, what
    is_json = response.getheader("Content-Type", "").startswith("application/json")
    if is_json or response.status not in PLAIN:
        assert is_json, what
        expect_error((response.status, {key.lower(): value for key, value in response.getheaders()}, text),
                     response.status, what=what) if response.status != 200 else None
    else:
        assert b"<" not in text, what
    raw.close()
if name == "nginx":
    # On the port without TLS, and without TLS on the other one.
    for port, request, status in [
        (plain_port, b"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (plain_port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (tls_port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ]:
        with socket.create_connection(("localhost", port), 20) as raw:
            raw.sendall(request)
            response = http.client.HTTPResponse(raw)
            response.begin()
            headers = {key.lower(): value for key, value in response.getheaders()}
            expect_error((response.status, headers, response.read()), status, what=f"{port}: {request[:40]!r}")
done(f"{len(MALFORMED)} malformed requests")

# What is large and allowed.
large = {"username": f"large.{name}", "password": "x" * 16_000}
expect(ask("POST", "/api/register", large), 201, API)
items = list(range(1, 10_001))
assert expect(ask("PUT", "/api/user/cellar/", items, token=token), 200, API) == items
assert expect(ask("GET", "/api/user/cellar", token=token), 200, API) == items
done("a password of 16,000 characters and a list of 10,000 items")


def many(_):
    connection = connect()
    return [ask("GET", "/api/user", token=token, connection=connection)[0] for _ in range(100)]


with ThreadPoolExecutor(8) as clients:
    statuses = [status for statuses in clients.map(many, range(8)) for status in statuses]
assert statuses == [200] * 800, statuses
done("800 requests of 8 clients at once, each 200")

expect(ask("POST", "/api/logout/", token=token, headers=[("Content-Length", "0")], connection=connection), 200, API)
expect_error(ask("GET", "/api/user", token=token), 401, API)
done("logged out, and the token is over")
