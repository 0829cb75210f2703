"""What a fresh Debian machine lacks: wrk, a folder of Python packages, and the release build."""

import importlib.util
import os
import shutil
import subprocess
import sys

from .paths import BENCH, ROOT, VENV


def run(*command):
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, stdout=sys.stderr)


def install(build=True):
    missing = [program for program in ("wrk", "git") if not shutil.which(program)]
    # Debian's Python comes without what makes a virtual environment.
    if not importlib.util.find_spec("ensurepip"):
        missing.append("python3-venv")
    if missing:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        run(*as_root, "apt-get", "update")
        run(*as_root, "apt-get", "install", "--yes", "--no-install-recommends", *missing)
    installed = VENV / "requirements.txt"
    wanted = BENCH / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        run(sys.executable, "-m", "venv", "--clear", VENV)
        run(VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        shutil.copy(wanted, installed)
    if build:
        run("cargo", "build", "--release", "--locked", "--bins", "--examples")
