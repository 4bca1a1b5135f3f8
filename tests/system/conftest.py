"""The fixtures of the system tests. HUMCLI_STAGE: see Paths."""

import os
import random
import subprocess
import zlib
from pathlib import Path

import pytest

from harness import hosting_bundle
from harness.cli import Cli
from harness.postgres import Cluster, Database
from harness.responder_database import ResponderDatabase

SOURCE = Path(__file__).resolve().parents[2]


class Paths:
    """
    The paths of the programs and of the SQL. Programs are in HUMCLI_STAGE, the
    folder of `make install DESTDIR=...` (prefix /usr/local). The SQL is that of
    the source.
    """

    source = SOURCE
    install_sql = SOURCE / "sql" / "install.sql"

    @property
    def stage(self):
        """The staged prefix."""
        stage = os.environ.get("HUMCLI_STAGE")
        if not stage:
            pytest.fail("HUMCLI_STAGE is not set: make install DESTDIR=$HUMCLI_STAGE")
        return Path(stage) / "usr/local"

    @property
    def responder(self):
        """The FastCGI and CGI program."""
        return self.stage / "libexec/humcli-webhook/humcli-webhook.fcgi"

    @property
    def humcli_sql(self):
        """The text of humcli.sql, made by the command that the build uses."""
        folder = SOURCE / "sql"
        return subprocess.run(["awk", "-v", f"dir={folder}", "-f", folder / "flatten.awk",
                               folder / "install.sql"],
                              check=True, capture_output=True, text=True).stdout


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: needs all processors, or measures short times; "
                            "scripts/check runs no other test beside it")


def pytest_make_parametrize_id(val, argname):
    """Shortens long names, because pytest puts the name of a test into its
    environment, whose size has a limit."""
    if isinstance(val, (str, bytes)) and len(val) > 200:
        data = val if isinstance(val, bytes) else val.encode("utf-8", "surrogatepass")
        return f"{argname}-{len(data)}-{zlib.crc32(data):08x}"
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the server's log to the report of a failure."""
    report = (yield).get_result()
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and cluster is not None:
        report.sections.append(("PostgreSQL's log", cluster.log[-5000:]))


@pytest.fixture(scope="session")
def paths():
    """The Paths."""
    return Paths()


@pytest.fixture(scope="session")
def cluster():
    """A running PostgreSQL."""
    server = Cluster()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def template(cluster, paths):
    """The name of a database with the schema, a template for others."""
    name = cluster.create_database()
    Database(cluster, name).psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    return name


@pytest.fixture(scope="session")
def pooled(cluster, template, paths):
    """The name of a template that also has the functions of the pool."""
    name = cluster.create_database(template=template)
    Database(cluster, name).psql("-v", "ON_ERROR_STOP=1", "-q",
                                 "-f", str(paths.source / "sql/pool.sql"))
    return name


@pytest.fixture
def database(cluster, template):
    """A database with the schema and no rows."""
    name = cluster.create_database(template=template)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture
def connection(database):
    """A connection to the database."""
    it = database.connect()
    yield it
    it.close()


@pytest.fixture
def cli(paths, tmp_path):
    """The command line program."""
    return Cli(paths.stage / "bin" / "humcli-webhook", tmp_path)


@pytest.fixture(scope="module")
def store(cluster, template, paths):
    """A ResponderDatabase for the tests of one module."""
    it = ResponderDatabase(cluster, cluster.create_database(template=template),
                           paths.source / "sql")
    yield it
    it.close()


@pytest.fixture(scope="session")
def archive(paths, tmp_path_factory):
    """The archive for hosts without a shell."""
    return hosting_bundle.pack(paths, tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def rng():
    """Random numbers. A failure shows the seed, and HUMCLI_SEED repeats it."""
    seed = int(os.environ.get("HUMCLI_SEED") or random.SystemRandom().randrange(2 ** 32))
    print(f"HUMCLI_SEED={seed}")
    return random.Random(seed)
