"""Input that crashes libfcgi: a client of the FastCGI socket can end the
process. A supervisor restarts it within 1 s, lighttpd within 4 s. No
acknowledged event is lost."""

import contextlib
import glob
import struct
import threading
import time

import pytest

from harness import fastcgi
from harness.kill_load import Site
from harness.postgres import wait_until

# Seconds. lighttpd usually restarts the process at once. It takes one or two
# seconds more if the old process is still ending when lighttpd checks.
BACK = {"lighttpd-socket": 1, "lighttpd-spawn": 4}
CRASHES = 3
RATE = 60   # a second
HUGE = struct.pack("!II", 0xfffffffe, 0xfffffffe)

# libfcgi has a buffer of 64 bytes for all answers, and adds two lengths in an
# int. A fixed libfcgi only closes the connection.
CRASHERS = {
    "values": fastcgi.record(fastcgi.GET_VALUES, fastcgi.pairs(
        [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""),
         ("FCGI_MPXS_CONNS", "")] * 40), request=0),
    "lengths": fastcgi.begin() + fastcgi.record(fastcgi.PARAMS, HUGE),
}


@contextlib.contextmanager
def supervised(service):
    """Restarts a service as systemd does with Restart=on-failure. lighttpd
    supervises its own process."""
    if service is None:
        yield
        return
    assert service.unit["Restart"] == "on-failure"
    pause = float(service.unit["RestartSec"].removesuffix("ms")) / 1000
    over = threading.Event()

    def supervise():
        while service.process.wait() != 0 and not over.wait(pause):
            service.start()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        service.process.kill()
        thread.join()


def crash(site, data):
    """Sends the data; returns after the connection and the process have
    ended."""
    # lighttpd appends a number to the name.
    path, = glob.glob(site.setup.socket_path() + "*")
    with fastcgi.Connection(path) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data)
            # libfcgi answers with values only if more input has arrived.
            connection.send(bytes(8))
            connection.end_sending()
        assert connection.closed(10)


def serves(site):
    return site.server.https.get("/health").status == 200


def seconds_until_back(site):
    start = time.monotonic()
    wait_until(lambda: serves(site), "an answer", limit=20)
    return time.monotonic() - start


@pytest.mark.parametrize("crasher", CRASHERS)
@pytest.mark.parametrize("name", BACK)
def test_back_in_time(paths, cluster, rng, name, crasher):
    with Site(paths, cluster, rng.random(), name) as site, \
            supervised(site.service):
        with site.load(rate=RATE) as load:
            for _ in range(CRASHES):
                crash(site, CRASHERS[crasher])
                assert seconds_until_back(site) < BACK[name], site.logs()
                # lighttpd starts at most one process per second.
                load.wait_received(3 * RATE)
        site.ledger(load).check()
