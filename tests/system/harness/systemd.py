"""Runs the shipped units as systemd does: the socket, the program, its streams
and its end. The rest of the units has no effect here."""

import configparser
import os
import pwd
import shlex
import signal
import socket
import subprocess

from harness.responder import as_test_user, chown_to_test_user


def read_unit(path):
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=",
                                     comment_prefixes="#")
    unit.optionxform = str
    with open(path, encoding="ascii") as file:
        unit.read_file(file)
    return unit


class Service:
    """The socket unit and the service unit. The socket stays open while the
    service stops and starts."""

    def __init__(self, paths, path, journal, environment):
        """path: the path of the socket, instead of ListenStream's."""
        units = paths.stage / "lib/systemd/system"
        self.unit = read_unit(units / "humcli-webhook.service")["Service"]
        unit = read_unit(units / "humcli-webhook.socket")["Socket"]
        assert self.unit["StandardInput"] == "socket"
        assert self.unit["StandardOutput"] == self.unit["StandardError"] == "journal"
        self.command = shlex.split(self.unit["ExecStart"])
        assert self.command[0].startswith("/usr/local/")
        self.command[0] = str(paths.stage / self.command[0][len("/usr/local/"):])
        self.journal = journal
        self.environment = environment
        self.process = None
        self.user = as_test_user()
        self.listener = socket.socket(socket.AF_UNIX)
        try:
            self.listener.bind(path)
            os.chmod(path, int(unit["SocketMode"], 8))
            chown_to_test_user(path)
            self.listener.listen(int(unit["Backlog"]))
            self.start()
        except BaseException:
            self.listener.close()
            raise

    def start(self):
        user = pwd.getpwuid(os.stat(self.listener.getsockname()).st_uid)
        with open(self.journal, "ab") as journal:
            self.process = subprocess.Popen(
                self.command, cwd="/", stdin=self.listener, stdout=journal, stderr=journal,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                     "LANG": "C.UTF-8", "USER": user.pw_name, "LOGNAME": user.pw_name,
                     "HOME": user.pw_dir, "SHELL": user.pw_shell, **self.environment},
                umask=int(self.unit["UMask"], 8), start_new_session=True, **self.user)

    def stop(self):
        """Stops the service and kills it after TimeoutStopSec. Returns the exit
        status."""
        self.process.send_signal(getattr(signal, self.unit["KillSignal"]))
        try:
            return self.process.wait(int(self.unit["TimeoutStopSec"]))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self):
        try:
            if self.process.poll() is None:
                status = self.stop()
                assert status == 0, f"the responder ended with {status}"
        finally:
            self.listener.close()
