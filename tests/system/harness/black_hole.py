"""Routes to PostgreSQL that drop all packets without an answer."""

import socket
import struct
import subprocess
import sys

from harness import tcp_relay
from harness.postgres import wait_until
from harness.systemd import Service

PORT = 5432


class BlackHole:
    """A TCP port whose backlog is full, so that the kernel drops each new
    connection. After start_answering() the port leads to PostgreSQL."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.program = None
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.pending = []
        while not self.pending or self._is_connected(self.pending[-1]):
            self.pending.append(socket.socket())
            self.pending[-1].setblocking(False)
            self.pending[-1].connect_ex(("127.0.0.1", self.port))

    @staticmethod
    def _is_connected(one):
        """Returns true if the backlog had room. It accepts at once or never."""
        try:
            one.getpeername()
            return True
        except OSError:
            return False

    def conninfo(self, rest):
        return f"host=127.0.0.1 port={self.port} {rest}"

    def start_answering(self):
        for one in self.pending:
            one.close()
        self.program = subprocess.Popen([sys.executable, tcp_relay.__file__, "-", self.upstream],
                                        stdin=self.listener)
        wait_until(self._passes_on, "the relay to accept")

    def _passes_on(self):
        """Returns true if the backlog has room and PostgreSQL answers."""
        with socket.socket() as one:
            one.settimeout(0.5)
            try:
                one.connect(("127.0.0.1", self.port))
                # SSLRequest: the server answers it by one byte.
                one.sendall(struct.pack("!II", 8, 80877103))
                return one.recv(1) in (b"N", b"S")
            except OSError:
                return False

    def close(self):
        for one in self.pending:
            one.close()
        if self.program is not None:
            self.program.kill()
            self.program.wait()
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class PrivateNetwork:
    """A network namespace that has only loopback, with a relay to PostgreSQL.
    drop() loses all of its packets. Needs root."""

    def __init__(self, upstream):
        # A namespace lives as long as a process in it.
        self.program = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
             sys.executable, tcp_relay.__file__, str(PORT), upstream])
        try:
            wait_until(self._listens, "the relay to listen")
        except BaseException:
            self.close()
            raise

    def _listens(self):
        assert self.program.poll() is None, "the relay ended"
        # State 0A is LISTEN, 1538 is PORT.
        with open(f"/proc/{self.program.pid}/net/tcp", encoding="ascii") as file:
            return any(line.split()[1:4:2] == [f"0100007F:{PORT:04X}", "0A"] for line in file)

    @property
    def enter(self):
        """The start of a command line that runs a command in the namespace."""
        return ["nsenter", "--net", "--target", str(self.program.pid)]

    def conninfo(self, rest):
        return f"host=127.0.0.1 port={PORT} {rest}"

    def _tc(self, action, *discipline):
        subprocess.run([*self.enter, "tc", "qdisc", action, "dev", "lo", "root", *discipline],
                       check=True, capture_output=True)

    def drop(self):
        """Drops all packets: the queue is too short for any of them."""
        self._tc("add", "tbf", "rate", "8bit", "burst", "1", "limit", "1")

    def pass_on(self):
        self._tc("del")

    def close(self):
        self.program.kill()
        self.program.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ServiceInside(Service):
    """A Service in a PrivateNetwork. The web server reaches it by the unix
    socket, which works across network namespaces."""

    def __init__(self, network, *arguments):
        self.network = network
        super().__init__(*arguments)

    def start(self):
        user, group = str(self.user["user"]), str(self.user["group"])
        self.command = [*self.network.enter, "setpriv", "--reuid", user, "--regid", group,
                        "--clear-groups", *self.command]
        self.user = {}
        super().start()
