"""A proxy between the responder and PostgreSQL, on unix sockets. It forwards
all bytes until a test tells it to refuse connections, to freeze, or to hold
one statement. The test sees a stopped server; other tests use it meanwhile."""

import os
import shutil
import socket
import tempfile
import threading

from harness.responder import chown_to_test_user

PORT = 5432


class PostgresProxy:
    def __init__(self, upstream):
        """upstream: the path of PostgreSQL's own unix socket."""
        self.upstream = upstream
        self.folder = tempfile.mkdtemp(prefix="humcli-proxy-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        chown_to_test_user(self.folder)
        self.path = os.path.join(self.folder, f".s.PGSQL.{PORT}")
        self.lock = threading.Lock()
        self.sockets = set()
        self.threads = []
        self.running = threading.Event()
        self.running.set()
        self.pattern = None
        self.held = threading.Event()
        self.accepted = 0
        self.listener = None
        self.open()

    def conninfo(self, rest):
        return f"host={self.folder} port={PORT} {rest}"

    def open(self):
        """Accepts connections again, and forwards bytes again."""
        self.running.set()
        if self.listener is not None:
            return
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o777)
        self.listener.listen(64)
        self._run(self._accept, self.listener)

    def refuse(self):
        """Cuts the open connections and refuses new ones, as if no server
        ran."""
        self._end_listener()
        self.cut()

    def freeze(self):
        """Keeps the connections open and stops forwarding, as if the server
        were stopped by SIGSTOP."""
        self.running.clear()

    def hold_statement(self, pattern):
        """Freezes when the responder sends this text. The text is not
        forwarded, and `held` is set."""
        self.held.clear()
        self.pattern = pattern

    def cut(self):
        with self.lock:
            sockets, self.sockets = self.sockets, set()
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._end_listener()
        self.pattern = None
        self.running.set()
        self.cut()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _end_listener(self):
        if self.listener is None:
            return
        listener, self.listener = self.listener, None
        os.unlink(self.path)
        listener.shutdown(socket.SHUT_RDWR)

    def _run(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        self.threads.append(thread)
        thread.start()

    def _accept(self, listener):
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                self.accepted += 1
                self._run(self._pair, client)

    def _pair(self, client):
        """Forwards both directions of one connection until either ends."""
        server = socket.socket(socket.AF_UNIX)
        with client, server:
            try:
                server.connect(self.upstream)
            except OSError:
                return
            with self.lock:
                self.sockets |= {client, server}
            back = threading.Thread(target=self._pump, args=(server, client))
            back.start()
            self._pump(client, server, watch=True)
            back.join()
            with self.lock:
                self.sockets -= {client, server}

    def _pump(self, source, target, watch=False):
        try:
            while True:
                data = source.recv(1 << 16)
                if watch and self.pattern and self.pattern in data:
                    self.pattern = None
                    self.running.clear()
                    self.held.set()
                self.running.wait()
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
