"""A TCP proxy to PostgreSQL that is far away: it forwards all bytes, later."""

import queue
import socket
import threading
import time


class SlowProxy:
    """Listens on an address and forwards to PostgreSQL: upstream is the path of
    its unix socket, or its host and port. Each chunk arrives `delay` seconds after it was sent. Once `cut_at` is set, a
    connection whose server sends these bytes is forwarded up to them and
    then stands still."""

    def __init__(self, upstream, address="127.0.0.1", port=0, delay=0.0):
        self.upstream = upstream
        self.delay = delay
        self.cut_at = None
        self.accepted = 0
        self.was_cut = threading.Event()
        self.open = []
        self.threads = []
        self.listener = socket.create_server((address, port))
        self.port = self.listener.getsockname()[1]
        self._run(self._accept)

    def _run(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.socket(socket.AF_UNIX if isinstance(self.upstream, str)
                                   else socket.AF_INET)
            server.connect(self.upstream)
            self.open += [client, server]
            for source, target, cuts in ((client, server, False), (server, client, True)):
                chunks = queue.Queue()
                self._run(self._receive, source, chunks, cuts)
                self._run(self._send, target, chunks)

    def _receive(self, source, chunks, cuts):
        data = b"x"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            at = data.find(self.cut_at) if cuts and self.cut_at else -1
            if at >= 0:
                chunks.put((time.monotonic() + self.delay, data[:at]))
                self.was_cut.set()
                return
            chunks.put((time.monotonic() + self.delay, data))

    @staticmethod
    def _send(target, chunks):
        while True:
            due, data = chunks.get()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return

    def close(self):
        for one in (self.listener, *self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
