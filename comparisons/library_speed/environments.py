"""An environment for every peer, made once from the package index and kept: their pins conflict."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from comparisons.library_speed.roster import Install, Peer

LIMIT = 900
"""Seconds that one installation may take."""


class InstallError(RuntimeError):
    """An environment could not be made; the message says why in one line."""


def interpreter(peer: Peer, folder: Path) -> Path:
    """The python that runs a peer: of its own environment, made now where it is not there yet.

    An environment's name holds a digest of what it was asked for, so changed pins make a new one. One that was interrupted is
    made anew.

    Raises:
        InstallError: it cannot be made.
    """
    if not peer.installs:
        return Path(sys.executable)
    wanted = hashlib.sha256(json.dumps([sys.version_info[:2], peer.installs]).encode()).hexdigest()[:10]
    home = folder / f"{peer.name}-{wanted}"
    python = home / "bin" / "python"
    if not (home / "complete").is_file():
        make(home, python, peer.installs, folder / f"{peer.name}.log")
        installed = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True).stdout
        (home / "complete").write_text(installed)
    return python.absolute()


def make(home: Path, python: Path, installs: tuple[Install, ...], log: Path) -> None:
    """Make the environment at `home` and install into it."""
    shutil.rmtree(home, ignore_errors=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    call([sys.executable, "-m", "venv", str(home)], log)
    for install in installs:
        call([str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *install], log)


def call(command: list[str], log: Path) -> None:
    """Run a command with its output in a log; an `InstallError` with the log's telling line where it fails."""
    with log.open("a") as output:
        try:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT).returncode
        except subprocess.TimeoutExpired:
            raise InstallError(f"installing took longer than {LIMIT} s") from None
        except OSError as error:
            raise InstallError(str(error)) from error
    if code:
        lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith("ERROR:")] or lines or [f"exit code {code}"]
        raise InstallError(telling[-1].removeprefix("ERROR:").strip()[:200])
