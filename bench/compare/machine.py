"""The machine and the versions: what a figure is worth nothing without."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .paths import RELEASE, ROOT, VENV, WORK

PACKAGES = ("Django", "djangorestframework", "django-rest-knox", "gunicorn", "bcrypt")


def said(*command):
    """A program's first line. wrk tells its version with the exit code of a failure."""
    try:
        answer = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return "unknown"
    return (answer.stdout or answer.stderr).strip().partition("\n")[0] or "unknown"


def describe(plan):
    WORK.mkdir(parents=True, exist_ok=True)
    processors = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    system = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.toml", "Cargo.lock", "bench"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()
    versions = {
        "authtokens": said(RELEASE / "authtokens", "--version").removeprefix("authtokens "),
        "PocketBase": said(VENV / "bin" / "pocketbase", "--version").removeprefix("pocketbase version "),
        "Python": said(VENV / "bin" / "python", "--version").removeprefix("Python "),
        "rustc": said("rustc", "--version").removeprefix("rustc "),
        "wrk": said("wrk", "-v").partition(" [")[0].removeprefix("wrk "),
    }
    program = "import sys, importlib.metadata as m; [print(m.version(name)) for name in sys.argv[1:]]"
    found = subprocess.run([VENV / "bin" / "python", "-c", program, *PACKAGES], capture_output=True, text=True)
    versions |= dict(zip(PACKAGES, found.stdout.split()))
    return {
        "begun": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "plan": plan.name,
        "users": list(plan.users),
        "commit": said("git", "rev-parse", "HEAD") + (" with changes" if changed else ""),
        "versions": versions,
        "machine": {
            "processor": processors[0] if processors else platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**20, 1),
            "system": system.get("PRETTY_NAME", "unknown"),
            "kernel": platform.release(),
            "file_system": " ".join(said("findmnt", "-no", "FSTYPE,OPTIONS", "--target", WORK).split()),
            "load_average_at_start": os.getloadavg()[0],
        },
    }
