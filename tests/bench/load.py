"""The load: signed requests in files, and the outcome of a run. wrk sends them
as fast as answers arrive; steady sends them at a fixed rate."""

import hashlib
import hmac
import json
import os
import subprocess

from harness.responder import SECRET

HERE = os.path.dirname(os.path.abspath(__file__))

# The usual statuses of a task. Between two events of a task are TOGETHER other
# requests, because real events of a task are far apart, too.
LINE = ("PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED",
        "COMPLETED")
TOGETHER = 2000
BODY = ('{"event":"task.status_changed","task_id":"task_%s","status":"%s",'
        '"previous_status":"%s","timestamp":"2026-03-01T%02d:00:00.000Z"}')


def lives(tag):
    """Yields events of tasks that go through their usual statuses."""
    group = 0
    while True:
        for step in range(1, len(LINE)):
            for i in range(TOGETHER):
                yield BODY % (f"{tag}_{group}_{i}", LINE[step], LINE[step - 1], step)
        group += 1


def first_events(tag):
    """Yields events, each of a new task."""
    i = 0
    while True:
        yield BODY % (f"{tag}_{i}", LINE[1], LINE[0], 1)
        i += 1


def write_requests(path, bodies, count):
    """Writes records: 4 digits of the body's length, its signature, the
    body."""
    key = SECRET.encode()
    with open(path, "wb") as file:
        for _ in range(count):
            body = next(bodies).encode()
            file.write(b"%04d%s%s" % (
                len(body), hmac.digest(key, body, hashlib.sha256).hex().encode(), body))
    return path


class Outcome:
    """The outcome of a run. micros: the times of requests, or percentiles of
    them."""

    def __init__(self, ok, others, broken, seconds, micros):
        self.ok = ok
        self.others = others
        self.broken = broken
        self.seconds = seconds
        self.micros = micros


def wrk(contender, requests, connections, seconds, again=False):
    """Runs wrk, which sends for that many seconds and does not wait for the
    answers of requests in flight at the end."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
         "-s", "requests.lua", f"{contender.scheme}://localhost:{contender.port}{contender.url}",
         "--", requests, contender.url, *(["again"] if again else [])],
        check=True, capture_output=True, text=True, cwd=HERE)
    it = json.loads(done.stdout.splitlines()[-1])
    return Outcome(it["requests"] - it["status"], it["status"],
                   it["connect"] + it["read"] + it["write"] + it["timeout"],
                   it["micros"] / 1e6,
                   {"p50": it["p50"], "p99": it["p99"], "max": it["max"]})


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def steady(program, contender, requests, count, rate, fresh=False):
    """Runs steady with a connection for each 5 requests per second, so that no
    connection is idle for long."""
    connections = max(4, min(64, rate // 5))
    done = subprocess.run(
        [program, str(contender.port), contender.url, requests, str(count), str(rate),
         str(connections), "fresh" if fresh else "kept",
         "tls" if contender.tls else "plain"],
        check=True, capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    ok = sum(status == 200 for status, _ in pairs)
    broken = sum(status == 0 for status, _ in pairs)
    ordered = sorted(micros for _, micros in pairs)
    return Outcome(ok, len(pairs) - ok - broken, broken, count / rate,
                   {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99),
                    "p999": percentile(ordered, 0.999), "max": ordered[-1]})
