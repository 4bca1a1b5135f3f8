"""A new program and new settings replace the old ones under load, and no
request fails. This is tried for each way that humcli-webhook.fcgi(8) names."""

import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import kill_load
from harness.postgres import wait_until
from harness.postgres_proxy import PostgresProxy
from harness.responder import FastCGI, event
from harness.spool import Spool


class Installation:
    """A copy of the stage that a test may overwrite. Use as a context
    manager."""

    def __init__(self, paths):
        self.folder = Path(tempfile.mkdtemp(prefix="humcli-stage-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.stage = self.folder / "local"
        self.install_sql = paths.install_sql
        shutil.copytree(paths.stage, self.stage)
        self.responder = self.stage / paths.responder.relative_to(paths.stage)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def install(self):
        """Replaces the program by a new file, as `make install` does."""
        new = self.responder.with_name("new")
        shutil.copy(self.responder, new)
        with open(new, "ab") as file:
            file.write(b"newer")    # after the end of the loaded parts
        os.rename(new, self.responder)
        return os.stat(self.responder).st_ino


def both(site, load):
    kill_load.responder_stopped(site, load)
    kill_load.apache_reloaded(site, load)


WAYS = {
    "lighttpd-socket": kill_load.responder_stopped,
    "lighttpd-spawn": kill_load.lighttpd_reloaded,
    "apache-proxy_fcgi": both,
}


def configure(site, log):
    """Writes settings whose effect the test can see."""
    responder = site.setup.responder
    responder.log_file = os.path.join(responder.folder, log)
    responder.settings["LOG"] = responder.log_file
    responder.write("humcli-webhook.conf", site.setup.lines(
        "DATABASE", "SECRET_DIR", "SPOOL", "LOG"))


def running_program(site):
    """Returns the inode of the program that the responder runs; None if there
    is no responder yet."""
    start = wait_until(
        lambda: re.search(r"pid=(\d+) msg=.*serves FastCGI", site.setup.responder_log()),
        "the new responder", limit=20)
    return os.stat(f"/proc/{start[1]}/exe").st_ino


@pytest.mark.parametrize("name", WAYS)
def test_upgrade(name, paths, cluster, rng):
    with Installation(paths) as installation, \
            kill_load.Site(installation, cluster, rng.random(), name) as site:
        before = running_program(site)
        with site.load(fresh=True) as load:
            for number in range(3):
                load.wait_sent(rng.randrange(50, 200))
                configure(site, f"log-{number}")
                after = installation.install()
                assert after != before
                WAYS[name](site, load)
                assert running_program(site) == after
                before = after
                load.wait_received(50)
                assert site.setup.responder_log().count("outcome=recorded") > 0
        ledger = site.ledger(load)
        print(ledger, site.logs()[-5000:])
        ledger.check(may_fail=False)


def test_end_while_the_database_is_unavailable(paths, store):
    """The responder ends at once if the database became unavailable, because it
    has spooled the events in flight."""
    with Spool() as spool, PostgresProxy(store.socket) as proxy, \
            FastCGI(paths.responder, proxy.conninfo(store.login), SPOOL=spool.path,
                    DEADLINE="500ms") as responder:
        responder.assert_serving()
        proxy.hold_statement(b"humcli.record")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(responder.post, event())
            assert proxy.held.wait(5)
            proxy.refuse()
            assert answer.result().body == b'{"received":true,"spooled":true}'
        assert responder.stop() < 2
