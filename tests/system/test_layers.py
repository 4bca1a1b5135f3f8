"""tests/check-layers fails on each kind of include, and on each module without a name
in doc/design.md."""

import shutil
import subprocess

import pytest

FORBIDDEN = [
    ("base/buf.c", '#include "config/settings.h"', "base/ must not include"),
    ("event/event.c", '#include "store/queue.h"', "event/ must not include"),
    ("store/queue.c", '#include "responder/request.h"', "store/ must not include"),
    ("cli/cli.c", '#include "responder/request.h"', "cli/ must not include"),
    ("cli/cli.c", '#include "cli/doctor/doctor.h"', "cli/ must not include"),
    ("cli/init/files.c", '#include "cli/consumer/consumer.h"', "cli/init/ must not"),
    ("responder/main.c", '#include "cli/cli.h"', "responder/ must not include"),
    ("responder/handler.c", " #  include <fcgiapp.h>", "must not know <fcgiapp.h>"),
    ("base/buf.c", "#include <openssl/evp.h>", "must not know <openssl/evp.h>"),
    ("store/spool.c", "#include <cjson/cJSON.h>", "must not know <cjson/cJSON.h>"),
    ("cli/verbs/send.c", "#include <curl/curl.h>", "must not know <curl/curl.h>"),
    ("event/signature.c", "#include <libpq-fe.h>", "must not know <libpq-fe.h>"),
    ("elsewhere/new.c", '#include "base/buf.h"', "folder is not in doc/design.md"),
]


@pytest.fixture(name="tree")
def tree_fixture(paths, tmp_path):
    shutil.copytree(paths.source / "src", tmp_path / "src")
    (tmp_path / "doc").mkdir()
    shutil.copy(paths.source / "doc/design.md", tmp_path / "doc")
    return tmp_path


def check(paths, tree):
    return subprocess.run([paths.source / "tests/check-layers", tree],
                          capture_output=True, text=True, timeout=60, check=False)


def test_the_source_passes(paths, tree):
    result = check(paths, tree)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("file, line, message", FORBIDDEN)
def test_a_forbidden_include_is_named(paths, tree, file, line, message):
    path = tree / "src" / file
    path.parent.mkdir(exist_ok=True)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(old + line + "\n", encoding="utf-8")
    result = check(paths, tree)
    assert result.returncode == 1
    place = f"src/{file}:" if "folder is" in message else \
        f"src/{file}:{old.count(chr(10)) + 1}: "
    assert [text for text in result.stderr.splitlines()
            if text.startswith(place) and message in text], result.stderr


def test_a_design_without_tables_is_an_error(paths, tree):
    (tree / "doc/design.md").write_text("# How it works\n", encoding="utf-8")
    result = check(paths, tree)
    assert result.returncode == 1
    assert "cannot be read" in result.stderr


@pytest.mark.parametrize("old, new, message", [
    ("`event/delivery.c`", "`event/delivered.c`", "Modules does not name event/delivery.c"),
    ("`event/delivery.c`", "`event/delivered.c`", "there is no event/delivered.c"),
    ("`cli/main.c`, `verbs/`", "`cli/main.c`", "Modules does not name cli/verbs/init.c")])
def test_each_module_is_named(paths, tree, old, new, message):
    design = tree / "doc/design.md"
    text = design.read_text(encoding="utf-8")
    assert old in text
    design.write_text(text.replace(old, new), encoding="utf-8")
    result = check(paths, tree)
    assert result.returncode == 1
    assert message in result.stderr
