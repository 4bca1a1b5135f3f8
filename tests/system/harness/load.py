"""Sends signed events at a steady rate through a web server, and keeps the
answers. For tests that kill a part in the meantime."""

import asyncio
import collections
import random
import ssl
import threading
import time

from harness.postgres import wait_until
from harness.responder import event, sign

RATE = 320      # events per second, so that the load is at least 300
ANSWER_TIMEOUT = 15     # seconds; the web servers' own limits are below it
KEPT = 2        # seconds that a connection is kept; servers close it after 5


ACKNOWLEDGED = {b'{"received":true}': "recorded",
                b'{"received":true,"duplicate":true}': "duplicate",
                b'{"received":true,"spooled":true}': "spooled"}


def kind(answer):
    """Names the kind of an answer; "broken" for None."""
    if answer is None:
        return "broken"
    status, body = answer
    if status == 200:
        return ACKNOWLEDGED[body]
    return "503" if status == 503 else "other"


class Sent:
    """One event: its body and its answers. An answer is a status and a body;
    None if the connection broke."""

    def __init__(self, body):
        self.body = body
        self.answers = []
        self.slowest = 0

    @property
    def acknowledged(self):
        return any(answer and answer[0] == 200 for answer in self.answers)


class Load:
    """
    Sends by the clock, without waiting for answers. again: sends some events
    twice at the same time, and repeats half of those without a 200 a moment
    later, as HumCLI may. fresh: opens a connection for each request, so that no
    request meets a server that is closing a kept one. Use as a context manager;
    `sent` is complete after its end.
    """

    def __init__(self, server, seed, rate=RATE, again=True, fresh=False):
        self.server = server
        self.tls = ssl.create_default_context(cafile=server.certificate)
        self.random = random.Random(seed)
        self.rate = rate
        self.again = again
        self.fresh = fresh
        self.sent = []
        self.kinds = collections.Counter()  # counts the answers by kind
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
        """The number of answers with status 200."""
        return sum(self.kinds[name] for name in ACKNOWLEDGED.values())

    @property
    def failed(self):
        """The number of other answers and broken connections."""
        return self.kinds.total() - self.received

    def wait_sent(self, count):
        """Waits until that many more events were sent."""
        goal = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= goal or not self.thread.is_alive(),
                   f"{count} more to be sent", limit=60)

    def wait_received(self, count):
        """Waits until that many more answers have status 200."""
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
            answer = await asyncio.wait_for(self._exchange(one.body), ANSWER_TIMEOUT)
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
    """Reads an answer; returns the status, whether the server keeps the
    connection, and the body."""
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
