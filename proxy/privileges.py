"""Whose rights processes have: the master keeps those that it was started with, and its children give up root's.

The master stays root, as nginx's and Apache's do: a reload reads keys and binds ports. Keeper and workers, which talk
to the network, become the user that is set. After that the kernel lets nobody but root trace them or read their memory
(the change makes a process undumpable, see prctl(2)), not even another process of this user.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

import proxy
from proxy.accesslog.file import open_log
from proxy.accesslog.formats import STDOUT
from proxy.cache.layout import parse_argument
from proxy.errors import ConfigError, Problem, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.model import Settings

_ROOT = 0
_LOG_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All of them, `gid` too."""


def find_account(user: str | None, group: str | None) -> Account | None:
    """Look the settings up among the users of this machine; None: none is set. ConfigError: there is none such.

    Without `group` it is the user's own. The user's further groups come with it, as in nginx and Apache.
    """
    problems = []
    gid = None
    if group is not None and (gid := _group_id(group)) is None:
        problems.append(Problem("group", f"there is no group {group} on this machine: getent group lists those it has"))
    if user is None:
        if group is not None:
            problems.append(Problem("group", "has no effect without user: set user as well"))
        if problems:
            raise ConfigError(*problems)
        return None
    entry = _entry(user)
    if entry is None and not user.isdecimal():
        problems.append(Problem("user", f"there is no user {user} on this machine: getent passwd lists those it has"))
    elif entry is None and group is None:
        problems.append(Problem("user", f"user {user} has no entry that says its group: set group as well"))
    if problems:
        raise ConfigError(*problems)
    if entry is None:
        assert gid is not None  # else a problem
        return Account(user, int(user), gid, (gid,))
    own = entry.pw_gid if gid is None else gid
    return Account(entry.pw_name, entry.pw_uid, own, tuple(sorted({own, *os.getgrouplist(entry.pw_name, own)})))


def whom_to_become(account: Account | None, own_uid: int) -> tuple[Account | None, str]:
    """Decide whom keeper and workers become (None: they stay as they are), and what to warn of, if of anything."""
    if account is None:
        why = "keeper and workers keep all rights of root: set user to one that has few" if own_uid == _ROOT else ""
        return None, why
    if account.uid == own_uid:
        return None, ""
    if own_uid != _ROOT:
        return None, f"user {account.name} is not taken on: only root can, and this is user number {own_uid}"
    return account, ""


def drop(account: Account) -> None:
    """Become `account` for good; raises StartError if that is not so in the end."""
    try:
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise _cannot(account, error) from error
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise StartError(f"user {account.name}: the system did not make this process that user")
    with contextlib.suppress(PermissionError):
        os.setuid(_ROOT)
        raise StartError(f"user {account.name}: the rights of root were not gone for good")


@contextlib.contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Be `account` for a while, as far as files go; raises StartError if this process may not."""
    with contextlib.ExitStack() as undoing:
        try:
            groups, gid = os.getgroups(), os.getegid()
            os.setgroups(account.groups)
            undoing.callback(os.setgroups, groups)
            os.setegid(account.gid)
            undoing.callback(os.setegid, gid)
            os.seteuid(account.uid)
            undoing.callback(os.seteuid, _ROOT)
        except OSError as error:
            raise _cannot(account, error) from error
        yield


def look_around(settings: Settings, account: Account) -> tuple[Problem, ...]:
    """List what the configuration names and `account` cannot get at; raises StartError if it cannot run at all."""
    with acting_as(account):
        for path in (proxy.__file__, os.__file__, pydantic.__file__):
            if not _may(path, os.R_OK):
                raise StartError(
                    f"user {account.name} may not read the program itself, {path}: install it where all may, as in /opt"
                )
        return tuple(
            Problem(where, f"user {account.name} may not {verb} {path}: {what}")
            for where, verb, path, right, what in _needs(settings)
            if os.access(path, os.F_OK) and not _may(path, right)
        )


def hand_over_log(path: Path, account: Account) -> None:
    """See to it that `account` can open the access log itself, whenever it is opened again; raises StartError.

    Where only root may make files, root makes it and gives it away, as nginx's master does. Never in a folder that
    `account` can change: a link that it had laid there would give it another file of root's (CVE-2016-1247).
    """
    if str(path) == STDOUT:
        return
    folder = path.parent.resolve()
    with acting_as(account):
        try:
            os.close(open_log(path))
        except StartError as error:
            if _may_change((path.parent, folder), account):
                raise StartError(f"{error}; user {account.name} needs to write it") from None
        else:
            return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / path.name, flags, _LOG_MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != _ROOT:
                raise StartError(
                    f"access_log.path {path}: user {account.name} may not write there, and it is not given what is no "
                    f"plain file of root's: chown {account.name} it, or give another path"
                )
            os.fchown(descriptor, account.uid, -1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"access_log.path {path}: cannot be opened: {error.strerror}") from error
    with acting_as(account):
        try:
            os.close(open_log(path))
        except StartError as error:
            raise StartError(f"{error}; user {account.name} needs to get at it") from None


def _needs(settings: Settings) -> Iterator[tuple[str, str, Path | str, int, str]]:
    """List what children open by themselves: where it is set, the verb, the path, the right, and what comes of it."""
    for number, site in enumerate(settings.site):
        for index, files in enumerate(site.certificate):
            if files.staple:
                where = f"site[{number}].certificate[{index}].staple"
                yield where, "read", files.staple, os.R_OK, "a newer one will not be seen"
        for servers in (site.upstream, *(route.upstream for route in site.route)):
            for path in (server.address.path for server in servers if server.address.path):
                yield f"site[{number}].upstream", "connect to", path, os.W_OK, "requests will be answered 502"
    if folder := settings.redirect.acme_folder:
        yield "redirect.acme_folder", "read", folder, os.R_OK | os.X_OK, "no challenge will be found"
    if command := settings.stapling.on_event:
        yield "stapling.on_event", "execute", command[0], os.X_OK, "no event will be told"
    if settings.stapling.fetch_issuer and (cache := parse_argument(settings.stapling.local_cache).path):
        what = "issuers that are fetched are not kept for a restart"
        yield settings.stapling.local_cache_key, "make files in", Path(cache).parent, os.W_OK | os.X_OK, what


def _may(path: Path | str, right: int) -> bool:
    return os.access(path, right, effective_ids=True)


def _may_change(folders: tuple[Path, ...], account: Account) -> bool:
    """Whether who is acting could put something else in the place of a folder, or into it."""
    for each in {each for folder in folders for each in (folder, *folder.parents)}:
        try:
            status = each.stat()
        except OSError:
            return True  # it may not even look there: nothing is known
        is_sticky = status.st_mode & stat.S_ISVTX and each not in folders
        if status.st_uid == account.uid or (_may(each, os.W_OK) and not is_sticky):
            return True
    return False


def _cannot(account: Account, error: OSError) -> StartError:
    why = "CAP_SETUID and CAP_SETGID are needed" if isinstance(error, PermissionError) else error.strerror
    return StartError(f"user {account.name}: this process may not become another user: {why}")


def _group_id(group: str) -> int | None:
    with contextlib.suppress(KeyError):
        return grp.getgrnam(group).gr_gid
    return int(group) if group.isdecimal() else None


def _entry(user: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user)
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(int(user)) if user.isdecimal() else None
    return None
