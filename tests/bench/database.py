"""PostgreSQL for the benchmark: one on the machine's disk, and one on a disk
that needs 2 ms more for each sync."""

import os
import time

from harness.postgres import Cluster, Database, wait_until

import contenders

DISKS = ("as it is", "2 ms more")
# During a run there are no checkpoints except the benchmark's own. All other
# settings are PostgreSQL's defaults.
SETTINGS = ("shared_buffers = 512MB", "max_wal_size = 16GB", "checkpoint_timeout = 1h",
            "max_connections = 700")
TABLES = "humcli.events, humcli.repeats, webhook_events"


class BenchCluster(Cluster):
    def __init__(self, preload=None):
        self.preload = preload
        super().__init__(SETTINGS)

    def start(self):
        if self.preload:
            os.environ["LD_PRELOAD"] = str(self.preload)
        try:
            super().start()
        finally:
            os.environ.pop("LD_PRELOAD", None)


class BenchDatabase(Database):
    def __init__(self, paths, disk):
        slow = disk == DISKS[1]
        cluster = BenchCluster(paths.slow_disk if slow else None)
        super().__init__(cluster, cluster.create_database())
        self.psql("-q", "-v", "ON_ERROR_STOP=1", "-f", str(paths.install_sql))
        self.execute(contenders.read("schema.sql"))
        self.execute("CREATE ROLE bench_writer LOGIN IN ROLE humcli_writer")
        self.disk = disk

    def empty(self):
        self.execute(f"TRUNCATE {TABLES}")
        self.execute("CHECKPOINT")

    def count(self, table, settled):
        """Returns the number of rows once no row was added and no session was
        active for `settled` seconds, because events in flight are still recorded
        after the load's end."""
        last, since = None, time.monotonic()

        def is_settled():
            nonlocal last, since
            now = self.execute(
                f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state <> 'idle'"
                " AND pid <> pg_backend_pid())")[0]
            if now != last or now[1]:
                last, since = now, time.monotonic()
            return time.monotonic() - since > settled

        wait_until(is_settled, "the database to be idle", 60)
        return last[0]

    def close(self):
        self.cluster.remove()
