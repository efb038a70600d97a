"""Root's rights are given up for good, and what children open by themselves is theirs: with real users."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest
from toml_file import load

from proxy.errors import ConfigError, StartError
from proxy.privileges import Account, acting_as, drop, find_account, hand_over_log, look_around, whom_to_become

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")
SOMEBODY = Account("somebody", 1234, 1235, (1235, 1236))


@pytest.fixture
def folder():
    """Where every user may look: pytest's own folders are root's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def in_child(do):
    """Call it in a process of its own, which may do to itself what cannot be undone; what it returned, as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.write(writing, repr(do()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(writing, repr(error).encode())
            raise
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    return said


class TestFindAccount:
    """The settings, looked up among the users of this machine."""

    def test_by_name_and_by_number(self):
        found = find_account("nobody", None)
        assert found == find_account(str(NOBODY.pw_uid), None)
        assert (found.uid, found.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)

    def test_the_groups_of_the_user_come_with_it(self):
        groups = os.getgrouplist("nobody", 1)
        assert set(find_account("nobody", "daemon").groups) == {1, *groups}
        assert find_account("nobody", "daemon").gid == 1

    def test_a_number_without_an_entry_needs_a_group(self):
        """Containers have such users."""
        assert find_account("123456", "234567") == Account("123456", 123456, 234567, (234567,))
        with pytest.raises(ConfigError, match="user 123456 has no entry that says its group: set group as well"):
            find_account("123456", None)

    def test_none_is_set(self):
        assert find_account(None, None) is None

    def test_every_mistake_is_told(self):
        with pytest.raises(ConfigError) as error:
            find_account("no-such-user", "no-such-group")
        assert [problem.where for problem in error.value.problems] == ["group", "user"]


class TestWhomToBecome:
    """Decided before anything is given up."""

    def test_root_becomes_the_user(self):
        assert whom_to_become(SOMEBODY, 0) == (SOMEBODY, "")

    def test_root_without_a_user_is_warned_of(self):
        become, warning = whom_to_become(None, 0)
        assert become is None
        assert warning.startswith("keeper and workers keep all rights of root")

    def test_root_may_be_asked_for(self):
        assert whom_to_become(Account("root", 0, 0, (0,)), 0) == (None, "")

    def test_others_stay_who_they_are(self):
        assert whom_to_become(None, 1234) == (None, "")
        assert whom_to_become(SOMEBODY, 1234) == (None, "")
        become, warning = whom_to_become(SOMEBODY, 99)
        assert become is None
        assert warning == "user somebody is not taken on: only root can, and this is user number 99"


@as_root
class TestDrop:
    """Run in children, for it cannot be undone."""

    def test_everything_is_given_up(self):
        def do():
            drop(SOMEBODY)
            status = Path("/proc/self/status").read_text().splitlines()
            return [line.split() for line in status if line.startswith(("Uid", "Gid", "Groups", "CapEff", "CapPrm"))]

        none = "0000000000000000"
        assert in_child(do) == repr(
            [
                ["Uid:", *["1234"] * 4],
                ["Gid:", *["1235"] * 4],
                ["Groups:", "1235", "1236"],
                ["CapPrm:", none],
                ["CapEff:", none],
            ]
        )

    def test_what_cannot_be_given_up_is_no_start(self):
        """A container without CAP_SETGID, say: one sentence, and nothing half done goes on."""

        def do():
            os.setresuid(99, 99, 99)
            with pytest.raises(StartError, match="user somebody: this process may not become another user: CAP_SETUID"):
                drop(SOMEBODY)
            with pytest.raises(StartError, match="CAP_SETUID and CAP_SETGID are needed"):
                acting_as(SOMEBODY).__enter__()

        assert in_child(do) == "None"

    def test_another_process_of_the_user_sees_nothing_of_its_memory(self):
        """The keys of all sites are in it."""

        def do():
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                drop(SOMEBODY)
                os.write(writing, b"r")
                os.close(writing)
                signal_never = os.pipe()[0]
                os.read(signal_never, 1)
            os.read(reading, 1)
            drop(SOMEBODY)
            seen = []
            for name in ("mem", "environ", "maps"):
                try:
                    Path(f"/proc/{pid}/{name}").open("rb").close()
                    seen.append(name)
                except PermissionError:
                    pass
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return seen

        assert in_child(do) == "[]"


@as_root
def test_acting_as_somebody_is_undone():
    """What is made meanwhile is theirs, and afterwards everything is as before."""

    def do():
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o777)
            with acting_as(SOMEBODY):
                Path(name, "theirs").touch()
            status = Path(name, "theirs").stat()
        return (status.st_uid, status.st_gid), before == (os.getresuid(), os.getresgid(), os.getgroups())

    assert in_child(do) == "((1234, 1235), True)"


@as_root
class TestHandOverLog:
    """The access log is opened by the workers themselves, at the start and again at each rotation."""

    def hand_over(self, path):
        """Nothing, or the sentence."""
        try:
            hand_over_log(path, SOMEBODY)
        except StartError as error:
            return str(error)
        with acting_as(SOMEBODY):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        return None

    def test_in_a_folder_of_roots_it_is_made_and_given_away(self, folder):
        """As in /var/log; the next time it is found right."""
        path = folder / "access.log"
        for _ in range(2):
            assert self.hand_over(path) is None
            status = path.stat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o137) == (1234, 0)

    def test_one_of_roots_is_given_away(self, folder):
        """An earlier run had no user."""
        path = folder / "access.log"
        path.write_text("a line\n")
        assert self.hand_over(path) is None
        assert (path.read_text(), path.stat().st_uid) == ("a line\n", 1234)

    def test_in_a_folder_of_the_users_they_make_it(self, folder):
        """LogsDirectory= of a unit with User=, say."""
        os.chown(folder, 1234, 1235)
        assert self.hand_over(folder / "access.log") is None
        assert (folder / "access.log").stat().st_gid == 1235

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_a_link_that_the_user_has_laid_leads_nowhere(self, folder, link):
        """CVE-2016-1247: root would give away what the link leads to."""
        secret = folder / "secret"
        secret.touch(0o600)
        theirs = folder / "log"
        theirs.mkdir()
        link(secret, theirs / "access.log")
        os.chown(theirs, 1234, 1235)
        assert "Permission denied; user somebody needs to write it" in self.hand_over(theirs / "access.log")
        assert secret.stat().st_uid == 0

    def test_nor_does_one_in_the_place_of_a_folder(self, folder):
        """Root would make a file, for them to write to, wherever they want."""
        (folder / "etc").mkdir()
        theirs = folder / "theirs"
        theirs.mkdir()
        os.chown(theirs, 1234, 1235)
        (theirs / "log").symlink_to(folder / "etc")
        assert "user somebody needs to write it" in self.hand_over(theirs / "log" / "access.log")
        assert not list((folder / "etc").iterdir())

    def test_nor_a_link_of_roots_is_followed(self, folder):
        """What is behind it may be anything."""
        (folder / "secret").touch(0o600)
        (folder / "access.log").symlink_to(folder / "secret")
        assert "cannot be opened" in self.hand_over(folder / "access.log")
        assert (folder / "secret").stat().st_uid == 0

    def test_another_users_file_is_not_taken_away(self, folder):
        path = folder / "access.log"
        path.touch(0o600)
        os.chown(path, 99, 99)
        assert "no plain file of root's: chown somebody it, or give another path" in self.hand_over(path)
        assert path.stat().st_uid == 99

    def test_a_folder_that_they_may_not_look_into(self, folder):
        """Given away, the file would still not be opened at the next rotation."""
        folder.chmod(0o700)
        assert "Permission denied; user somebody needs to" in self.hand_over(folder / "access.log")

    def test_standard_output_is_there_already(self):
        assert hand_over_log(Path("-"), SOMEBODY) is None


NOT_KEPT = "issuers that are fetched are not kept for a restart"
CONFIGURATION = """
user = "nobody"
[stapling]
cache = "shmcb:cache"
fetch_issuer = true
on_event = ["{0}/command"]
[redirect]
acme_folder = "acme"
[[site]]
upstream = "unix:{0}/app.sock"
[[site.certificate]]
chain = "chain.pem"
key = "key.pem"
staple = "response.der"
"""


@as_root
class TestLookAround:
    """What children open by themselves is looked at before the start, as the user that they become."""

    def test_what_the_user_cannot_reach(self, folder, monkeypatch):
        """One warning each, with what comes of it."""
        monkeypatch.setattr(os, "__file__", "/etc/passwd")  # this Python may be root's alone; that is the next test
        monkeypatch.setattr("proxy.privileges.pydantic.__file__", "/etc/passwd")
        path = folder / "x.toml"
        path.write_text(CONFIGURATION.format(folder))
        (folder / "acme").mkdir()
        for name in ("command", "app.sock", "response.der"):
            (folder / name).touch(0o755)
        nobody = find_account("nobody", None)
        settings = load(path)
        assert [str(each) for each in look_around(settings, nobody)] == [
            f"site[0].upstream: user nobody may not connect to {folder}/app.sock: requests will be answered 502",
            f"stapling.cache: user nobody may not make files in {folder}: {NOT_KEPT}",
        ]
        for name in ("acme", "command", "app.sock", "response.der"):
            (folder / name).chmod(0o700)
        assert [each.where for each in look_around(settings, nobody)] == [
            "site[0].certificate[0].staple",
            "site[0].upstream",
            "redirect.acme_folder",
            "stapling.on_event",
            "stapling.cache",
        ]
        folder.chmod(0o777)
        for name in ("acme", "command", "app.sock", "response.der"):
            (folder / name).chmod(0o777)
        assert look_around(settings, nobody) == ()

    def test_the_program_itself(self, folder, monkeypatch):
        """Installed below /root, children would fail at their first import."""
        path = folder / "x.toml"
        path.write_text(CONFIGURATION.format(folder))
        secret = folder / "secret"
        secret.touch(0o600)
        monkeypatch.setattr("proxy.__file__", str(secret))
        with pytest.raises(StartError, match="user nobody may not read the program itself, "):
            look_around(load(path), find_account("nobody", None))
