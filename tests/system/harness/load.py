"""Signed, numbered events at a steady rate through a web server, and what
became of each: for tests that kill something meanwhile."""

import asyncio
import collections
import random
import ssl
import threading
import time

from harness.postgres import wait_until
from harness.responder import event, sign

RATE = 320      # a second, so that the load is 300 at least
PATIENCE = 15   # for an answer; a web server's own limits are below it
KEPT = 2        # seconds that a connection is kept; servers close it after 5


ACKNOWLEDGED = {b'{"received":true}': "recorded",
                b'{"received":true,"duplicate":true}': "duplicate",
                b'{"received":true,"spooled":true}': "spooled"}


def kind(answer):
    """Of an answer, or of None."""
    if answer is None:
        return "broken"
    status, body = answer
    if status == 200:
        return ACKNOWLEDGED[body]
    return "503" if status == 503 else "other"


class Sent:
    """One event: its body, and the answers to it, each a status and a body;
    None where the connection broke."""

    def __init__(self, body):
        self.body = body
        self.answers = []
        self.slowest = 0

    @property
    def acknowledged(self):
        return any(answer and answer[0] == 200 for answer in self.answers)


class Load:
    """
    Sends by the clock, whether answers come or not. again: as a sender who
    is not sure, a few twice at the same time, and half of those that got no
    200 once more a moment later. fresh: each on a connection of its own, so
    that none can meet a server that is just closing a kept one. Use as a
    context manager; sent is complete after it.
    """

    def __init__(self, server, seed, rate=RATE, again=True, fresh=False):
        self.server = server
        self.tls = ssl.create_default_context(cafile=server.certificate)
        self.random = random.Random(seed)
        self.rate = rate
        self.again = again
        self.fresh = fresh
        self.sent = []
        self.kinds = collections.Counter()  # of the answers
        self.seconds = 0
        self.idle = []
        self.enough = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        self.wait_received(50)
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join()
        if self.failure:
            raise self.failure

    @property
    def received(self):
        """The answers 200."""
        return sum(self.kinds[name] for name in ACKNOWLEDGED.values())

    @property
    def failed(self):
        """The others, and the broken connections."""
        return self.kinds.total() - self.received

    def wait_sent(self, count):
        """Until that many more were sent."""
        goal = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= goal or not self.thread.is_alive(),
                   f"{count} more to be sent", limit=60)

    def wait_received(self, count):
        """Until that many more were answered 200."""
        goal = self.received + count
        wait_until(lambda: self.received >= goal or not self.thread.is_alive(),
                   f"{count} more to be answered 200", limit=60)

    def _run(self):
        try:
            asyncio.run(self._send_all())
        except Exception as error:
            self.failure = error

    async def _send_all(self):
        tasks = set()
        start = time.monotonic()
        while not self.enough.is_set():
            early = start + len(self.sent) / self.rate - time.monotonic()
            await asyncio.sleep(max(early, 0))
            one = Sent(event())
            self.sent.append(one)
            task = asyncio.create_task(self._send(one))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        self.seconds = time.monotonic() - start
        for task in list(tasks):
            await task
        for _, _, writer in self.idle:
            writer.close()

    async def _send(self, one):
        if self.again and self.random.random() < 0.02:
            await asyncio.gather(self._post(one), self._post(one))
        else:
            await self._post(one)
        if self.again and not one.acknowledged and self.random.random() < 0.5:
            await asyncio.sleep(self.random.uniform(0, 0.5))
            await self._post(one)

    async def _post(self, one):
        start = time.monotonic()
        try:
            answer = await asyncio.wait_for(self._exchange(one.body), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            answer = None
        one.slowest = max(one.slowest, time.monotonic() - start)
        one.answers.append(answer)
        self.kinds[kind(answer)] += 1

    async def _connection(self):
        while self.idle:
            since, reader, writer = self.idle.pop()
            if time.monotonic() - since < KEPT:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(
            "127.0.0.1", self.server.tls_port, ssl=self.tls, server_hostname="localhost")

    async def _exchange(self, body):
        reader, writer = await self._connection()
        kept = False
        try:
            close = "Connection: close\r\n" if self.fresh else ""
            writer.write(f"POST {self.server.https.url} HTTP/1.1\r\nHost: localhost\r\n"
                         f"Content-Type: application/json\r\nX-Signature: {sign(body)}\r\n"
                         f"{close}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, kept, text = await read_answer(reader)
        finally:
            if kept:
                self.idle.append((time.monotonic(), reader, writer))
            else:
                writer.close()
        return status, text


async def read_answer(reader):
    """Status, whether the connection stays, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    if headers.get("transfer-encoding") == "chunked":
        text = b""
        while size := int(await reader.readline(), 16):
            text += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        text = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers.get("connection") != "close", text
