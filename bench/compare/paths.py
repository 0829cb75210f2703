"""Paths, and what all the servers have in common."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
RESULTS = BENCH / "results"
RELEASE = ROOT / "target" / "release"
EXAMPLES = RELEASE / "examples"
VENV = ROOT / "target" / "bench" / "venv"
# Beside the build and not in /tmp, which is memory on many machines: a flush to the disk must be one.
WORK = ROOT / "target" / "bench" / "work"

# PocketBase wants eight characters at least.
PASSWORD = "hunter2hunter2"
# Logins are of these first users, so that a session list is neither empty nor full.
LOGIN_USERS = 1_000
