"""A FastCGI client in the place of the web server. It builds its records by
itself, so that a test can also send invalid ones."""

import re
import socket
import struct
import time

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = range(1, 10)
RESPONDER = 1
KEEP_CONN = 1
RECORD_MAX = 65535


class Broken(Exception):
    """The peer closed the connection, or its answer is not valid FastCGI."""


def record(kind, content=b"", request=1, padding=0, version=1):
    return struct.pack("!BBHHBx", version, kind, request, len(content),
                       padding) + content + bytes(padding)


def begin(keep=False, role=RESPONDER, request=1):
    body = struct.pack("!HB5x", role, KEEP_CONN if keep else 0)
    return record(BEGIN, body, request)


def abort(request=1):
    return record(ABORT, b"", request)


def stream(kind, data, request=1, size=RECORD_MAX):
    """Returns data in records, without the empty record that ends a stream."""
    return b"".join(record(kind, data[i:i + size], request)
                    for i in range(0, len(data), size))


def _length(n):
    return struct.pack("!B", n) if n < 128 else struct.pack("!I", n | 1 << 31)


def pairs(params):
    """Returns the name-value pairs in the given order; names may repeat."""
    out = []
    for name, value in params:
        name, value = to_bytes(name), to_bytes(value)
        out += [_length(len(name)), _length(len(value)), name, value]
    return b"".join(out)


def to_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def head(params, keep=False, request=1):
    """Returns all records of a request before its body."""
    return (begin(keep, request=request)
            + stream(PARAMS, pairs(params), request)
            + record(PARAMS, b"", request))


def whole(params, body=b"", keep=False):
    return head(params, keep) + stream(STDIN, body) + record(STDIN)


class Answer:
    """An answer in the form of CGI (RFC 3875, 6.3)."""

    def __init__(self, raw):
        if b"\r\n\r\n" not in raw:
            raise Broken(f"no end of the headers in {raw[:200]!r}")
        lines, self.body = raw.split(b"\r\n\r\n", 1)
        self.raw = raw
        self.headers = []
        for line in lines.decode("ascii").split("\r\n"):
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(r"[A-Za-z-]+", name):
                raise Broken(f"no header: {line!r}")
            self.headers.append((name.lower(), value.strip()))
        match = re.fullmatch(r"(\d{3}) \S.*", self.header("status") or "")
        if not match:
            raise Broken(f"no Status: {raw[:200]!r}")
        self.status = int(match.group(1))

    def header(self, name):
        """The value of a header, None if absent; given twice is a fault."""
        found = [v for n, v in self.headers if n == name.lower()]
        if len(found) > 1:
            raise Broken(f"{name} given twice")
        return found[0] if found else None

    def __repr__(self):
        return f"Answer({self.raw!r})"


class Connection:
    def __init__(self, address, timeout=15):
        """address: the path of a unix socket, or a (host, port) pair."""
        family = (socket.AF_INET if isinstance(address, tuple)
                  else socket.AF_UNIX)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def send(self, data):
        self.socket.sendall(data)

    def end_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                chunk = self.socket.recv(size - len(data))
            except ConnectionError as error:
                raise Broken(str(error)) from error
            if not chunk:
                raise Broken(f"closed after {len(data)} of {size} bytes")
            data += chunk
        return data

    def read_record(self):
        version, kind, request, length, padding = struct.unpack(
            "!BBHHBx", self._exactly(8))
        if version != 1:
            raise Broken(f"version {version}")
        content = self._exactly(length + padding)[:length]
        return kind, request, content

    def answer(self, request=1):
        """Reads the answer to one request up to its END_REQUEST."""
        out = b""
        while True:
            kind, got, content = self.read_record()
            if got != request:
                raise Broken(f"a record of request {got}")
            if kind == STDOUT:
                out += content
            elif kind == STDERR:
                if content:
                    raise Broken(f"FCGI_STDERR: {content!r}")
            elif kind == END:
                application, protocol = struct.unpack("!IB3x", content)
                if application or protocol:
                    raise Broken(f"END_REQUEST {application} {protocol}")
                return Answer(out)
            else:
                raise Broken(f"record of type {kind}")

    def closed(self, within):
        """Returns true if the peer closes within that many seconds. Data that
        still arrives is dropped."""
        end = time.monotonic() + within
        try:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self.socket.settimeout(left)
                if not self.socket.recv(65536):
                    return True
        except socket.timeout:
            return False
        except ConnectionError:
            return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def exchange(address, params, body=b"", keep=False, timeout=15):
    with Connection(address, timeout) as connection:
        try:
            connection.send(whole(params, body, keep))
        except (BrokenPipeError, ConnectionResetError):
            pass    # refused early: the answer may still be readable
        return connection.answer()
