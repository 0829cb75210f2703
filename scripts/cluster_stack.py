"""What scripts/cluster tries: three hosts with PostgreSQL, Patroni and etcd, and two copies of the service behind HAProxy.

Each host is a network namespace with an address of its own on a bridge, so that it can be cut off. The copies of the
service and HAProxy are beside the bridge, on the loopback address. scripts/cluster calls this inside of a network and a
process namespace of its own: nothing of it is seen from outside, and all of it ends with the script.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = "/usr/lib/postgresql/15/bin"
NETWORK = "10.77.0"
BALANCER, PORTS = 8000, {"a": 8001, "b": 8002}
ETCD = ",".join(f"n{number}=http://{NETWORK}.{number}:2380" for number in (1, 2, 3))

PATRONI = """
scope: authtokens
name: {name}
restapi: {{listen: "{address}:8008", connect_address: "{address}:8008"}}
# Not etcd3: Patroni 3.0.2 can have two primaries with it.
etcd: {{hosts: ["{network}.1:2379", "{network}.2:2379", "{network}.3:2379"]}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    primary_start_timeout: 0
    maximum_lag_on_failover: 1048576
    # No COMMIT is acknowledged before a standby has it, and no other standby may become the primary.
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        wal_log_hints: "on"
        max_connections: 100
        shared_buffers: 128MB
        wal_keep_size: 512MB
        password_encryption: scram-sha-256
        ssl: "on"
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, data-checksums]
  pg_hba:
    - hostssl all all {network}.0/24 scram-sha-256
    - hostssl replication replicator {network}.0/24 scram-sha-256
postgresql:
  listen: "{address}:5432"
  connect_address: "{address}:5432"
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  parameters: {{unix_socket_directories: "{folder}", ssl_cert_file: "{folder}/tls.pem", ssl_key_file: "{folder}/tls.key"}}
  authentication:
    superuser: {{username: postgres, password: postgres}}
    replication: {{username: replicator, password: replicator}}
    rewind: {{username: rewinder, password: rewinder}}
watchdog: {{mode: "off"}}
"""

HAPROXY = """
global
    stats socket {folder}/haproxy.sock mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    # What was sent is never sent twice: only a connection that was not made is tried at the other copy.
    retries 3
    retry-on conn-failure
    option redispatch 1
frontend clients
    bind 127.0.0.1:{balancer}
    default_backend copies
backend copies
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1
    server a 127.0.0.1:{a}
    server b 127.0.0.1:{b}
"""

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


def until(what, condition, seconds):
    """The first value of `condition` that is not empty."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.1)
    return value


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def namespace(pid):
    """The network namespace of a process, or nothing where it has ended."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")


class Host:
    """A machine with etcd, Patroni and PostgreSQL."""

    def __init__(self, number, work):
        self.name, self.address, self.link = f"n{number}", f"{NETWORK}.{number}", f"to-n{number}"
        self.folder = work / self.name
        self.folder.mkdir()
        shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o700)
        self.configuration = work / f"{self.name}.yml"
        self.configuration.write_text(PATRONI.format(
            name=self.name, address=self.address, folder=self.folder, network=NETWORK, programs=PROGRAMS))
        self.make_certificate(work)
        # Nothing else keeps the namespace alive while its host is down.
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        until("a namespace", lambda: namespace(self.holder.pid) not in (None, namespace(os.getpid())), 5)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", self.link, "master", "hosts", "up")
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run(*self.inside(), "ip", *command.split())
        self.patroni = None

    def make_certificate(self, work):
        """One for this address, signed by the trial's authority."""
        request, extension = work / f"{self.name}.csr", work / f"{self.name}.ext"
        extension.write_text(f"subjectAltName=IP:{self.address}\n")
        key, certificate = self.folder / "tls.key", self.folder / "tls.pem"
        run("openssl", "req", *NEW_KEY, "-subj", f"/CN={self.name}", "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-days", "1", "-CA", work / "ca.pem", "-CAkey", work / "ca.key", "-CAcreateserial",
            "-extfile", extension, "-in", request, "-out", certificate)
        for file in (key, certificate):
            shutil.chown(file, "postgres", "postgres")
        key.chmod(0o600)

    def inside(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "a")
        # PostgreSQL's client looks for certificates at home, and root's is closed to it.
        environment = os.environ | {"HOME": str(self.folder)}
        return subprocess.Popen([*self.inside(), *AS_POSTGRES, *command], stdout=log, stderr=log, cwd=self.folder,
                                env=environment)

    def start_etcd(self):
        client, peer = f"http://{self.address}:2379", f"http://{self.address}:2380"
        self.start("etcd", "etcd", "--name", self.name, "--data-dir", str(self.folder / "etcd"), "--enable-v2",
                   "--listen-client-urls", client, "--advertise-client-urls", client,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", ETCD,
                   "--pre-vote", "--heartbeat-interval", "200", "--election-timeout", "2000")

    def start_patroni(self):
        self.patroni = self.start("patroni", "patroni", str(self.configuration))

    def processes(self):
        """All of its processes but the one that holds the namespace."""
        own = namespace(self.holder.pid)
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if pid != self.holder.pid and namespace(pid) == own]

    def signal_all(self, what):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def kill_postgres(self):
        """Kills PostgreSQL's first process; the others end by themselves."""
        os.kill(int((self.folder / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def cut_off(self):
        run("ip", "link", "set", self.link, "down")

    def connect(self):
        run("ip", "link", "set", self.link, "up")

    def part(self, others, command="add"):
        """Lets nothing through to the other hosts, while clients still reach it; or, with `del`, all of it again."""
        for other in others:
            if other is not self:
                run(*self.inside(), "ip", "route", command, "blackhole", f"{other.address}/32")

    def kill_patroni(self):
        self.patroni.kill()
        self.patroni.wait()


class Copy:
    """A copy of the service."""

    def __init__(self, name, binary, work, settings):
        self.name, self.port, self.binary, self.settings = name, PORTS[name], binary, settings
        self.log = work / f"{name}.log"
        self.process = None

    def start(self):
        # Not the caller's own settings.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AUTHTOKENS")} | {
            "AUTHTOKENS_CONFIG": "/dev/null", "RUST_LOG": "info", "AUTHTOKENS__PASSWORD__BCRYPT_COST": "4",
            "AUTHTOKENS__RATE_LIMIT__ENABLED": "false",
        } | self.settings
        command = [self.binary, "--listen", f"127.0.0.1:{self.port}"]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until(f"copy {self.name} starts", lambda: status(self.port, "/readyz") == 200 or self.ended(), 60)

    def ended(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"copy {self.name} has ended:\n{self.log.read_text()[-2000:]}")

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        if code != 0:
            raise RuntimeError(f"copy {self.name} ended with {code}:\n{self.log.read_text()[-2000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()


def status(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


class Stack:
    """All of it."""

    def __init__(self, work, binary, databases=3):
        """With two databases the third host has etcd alone: it only has a vote."""
        self.work, self.databases = pathlib.Path(work), databases
        self.work.chmod(0o755)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "hosts", "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", "hosts")
        run("ip", "link", "set", "hosts", "up")
        run("openssl", "req", "-x509", "-days", "1", *NEW_KEY, "-subj", "/CN=authority", "-keyout", self.work / "ca.key",
            "-out", self.work / "ca.pem")
        self.hosts = [Host(number, self.work) for number in (1, 2, 3)]
        addresses = ",".join(host.address for host in self.hosts[:databases])
        settings = {"AUTHTOKENS__DATABASE__URL": f"postgres://authtokens:authtokens@{addresses}/authtokens",
                    "AUTHTOKENS__DATABASE__CA_FILE": str(self.work / "ca.pem")}
        self.copies = [Copy(name, binary, self.work, settings) for name in PORTS]

    def start_database(self):
        for host in self.hosts:
            host.start_etcd()
        for host in self.hosts[:self.databases]:
            host.start_patroni()
        self.wait_until_whole(120)
        self.sql("CREATE ROLE authtokens LOGIN PASSWORD 'authtokens'", database="postgres")
        self.sql("CREATE DATABASE authtokens OWNER authtokens", database="postgres")

    def start_service(self):
        for copy in self.copies:
            copy.start()
        configuration = self.work / "haproxy.cfg"
        configuration.write_text(HAPROXY.format(folder=self.work, balancer=BALANCER, **PORTS))
        log = open(self.work / "haproxy.log", "a")
        subprocess.Popen(["haproxy", "-db", "-f", configuration], stdout=log, stderr=log)
        until("HAProxy starts", lambda: status(BALANCER, "/readyz") == 200, 20)

    def ask_etcd(self, key):
        """What Patroni's members have agreed on: the value of a key, of a majority of the hosts."""
        for host in self.hosts:
            connection = http.client.HTTPConnection(host.address, 2379, timeout=2)
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError), contextlib.closing(connection):
                connection.request("GET", f"/v2/keys/service/authtokens/{key}?quorum=true")
                return json.loads(connection.getresponse().read())["node"]["value"]

    def find_primary(self):
        name = self.ask_etcd("leader")
        return next((host for host in self.hosts if host.name == name), None)

    def primary(self):
        return until("a primary", self.find_primary, 60)

    def standby(self):
        """The synchronous one."""
        name = json.loads(self.ask_etcd("sync") or "{}").get("sync_standby")
        return next((host for host in self.hosts if host.name == name), None)

    def is_whole(self):
        """Whether all others follow the primary, and one of them synchronously, as Patroni knows, too."""
        if not (self.find_primary() and self.standby()):
            return False
        with contextlib.suppress(subprocess.CalledProcessError):
            rows = self.sql("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'", "postgres")
            return len(rows) == self.databases - 1 and "sync" in rows
        return False

    def wait_until_whole(self, seconds):
        until("all databases", self.is_whole, seconds)

    def switch_over(self):
        primary, standby = self.primary(), until("a standby", self.standby, 60)
        run("patronictl", "-c", str(primary.configuration), "switchover", "--force",
            "--leader", primary.name, "--candidate", standby.name)

    def sql(self, statement, database="authtokens"):
        """Runs a statement on the primary; its rows as text."""
        url = f"postgresql://postgres:postgres@{self.primary().address}/{database}?connect_timeout=2"
        return run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url).splitlines()

    def balance(self, command):
        """Tells HAProxy something."""
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(self.work / "haproxy.sock"))
            talk.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: talk.recv(65536), b"")).decode()

    def requests_at(self, copy):
        """How many requests HAProxy has under way at a copy."""
        rows = [line.split(",") for line in self.balance("show stat").splitlines() if line]
        return next(int(row[4]) for row in rows if row[:2] == ["copies", copy.name])

    def upgrade(self, copy):
        """Stops a copy and starts it anew, after the balancer was told."""
        self.balance(f"set server copies/{copy.name} state drain")
        until(f"copy {copy.name} has nothing to do", lambda: self.requests_at(copy) == 0, 60)
        copy.stop()
        copy.start()
        self.balance(f"set server copies/{copy.name} state ready")
        up = re.compile(rf"^copies,{copy.name},(?:[^,]*,){{15}}UP", re.MULTILINE)
        until(f"HAProxy uses copy {copy.name}", lambda: up.search(self.balance("show stat")), 30)

    def logs(self):
        """The ends of all logs."""
        for log in sorted([*self.work.glob("*.log"), *self.work.glob("n?/*.log")]):
            lines = log.read_text(errors="replace").splitlines()[-8:]
            yield "\n".join([f"-- {log.relative_to(self.work)}", *lines])
