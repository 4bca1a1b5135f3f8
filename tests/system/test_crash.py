"""What libfcgi does not survive: whoever reaches the FastCGI socket can end
the process. Its supervisor has it back within 1 s, lighttpd within 4 s, and
nothing that was acknowledged is lost."""

import contextlib
import glob
import struct
import threading
import time

import pytest

from harness import fastcgi
from harness.kill_load import Site
from harness.postgres import wait_until

# Seconds. lighttpd mostly has it back at once, but takes one or two ticks of
# its clock more if the old process was still ending when it looked.
BACK = {"lighttpd-socket": 1, "lighttpd-spawn": 4}
CRASHES = 3
RATE = 60   # a second
HUGE = struct.pack("!II", 0xfffffffe, 0xfffffffe)

# A buffer of 64 bytes for all answers together; a sum of two lengths in an
# int. A libfcgi that has mended them just closes the connection.
CRASHERS = {
    "values": fastcgi.record(fastcgi.GET_VALUES, fastcgi.pairs(
        [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""),
         ("FCGI_MPXS_CONNS", "")] * 40), request=0),
    "lengths": fastcgi.begin() + fastcgi.record(fastcgi.PARAMS, HUGE),
}


@contextlib.contextmanager
def supervised(service):
    """What systemd does with Restart=on-failure; lighttpd is its own."""
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
    """Returns once the connection is gone, and the process with it."""
    # lighttpd puts a number behind the name.
    path, = glob.glob(site.setup.socket_path() + "*")
    with fastcgi.Connection(path) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data)
            # More has to be there for it to answer with values.
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
                # lighttpd starts one at most once in a second of its clock.
                load.wait_received(3 * RATE)
        site.ledger(load).check()
