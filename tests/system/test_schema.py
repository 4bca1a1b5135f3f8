"""doc/humcli-event.schema.json and doc/openapi.yaml say what HumCLI sends and
what the receiver answers."""

import base64
import datetime
import json
import re

import jsonschema
import pytest
import yaml

from harness.responder import CGI, FastCGI, event
from harness.spool import Spool

SCHEMA_FILE = "humcli-event.schema.json"


@pytest.fixture(scope="module")
def schema(paths):
    """The schema of the body."""
    it = json.loads((paths.source / "doc" / SCHEMA_FILE).read_text())
    jsonschema.Draft202012Validator.check_schema(it)
    return it


@pytest.fixture(scope="module")
def api(paths, schema):
    """The OpenAPI document, each reference replaced by what it names."""
    root = yaml.safe_load((paths.source / "doc/openapi.yaml").read_text())

    def resolved(node):
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        more = {key: resolved(value) for key, value in node.items() if key != "$ref"}
        if "$ref" not in node:
            return more
        if node["$ref"] == SCHEMA_FILE:
            return schema
        found = root
        assert node["$ref"].startswith("#/"), node
        for part in node["$ref"][2:].split("/"):
            found = found[part]
        return {**resolved(found), **more}

    return resolved(root)


def vectors(paths):
    """The deliveries that have a right signature: name, body and answers."""
    for file in sorted((paths.source / "tests/vectors").glob("*.json")):
        for each in json.loads(file.read_text())["deliveries"]:
            if each["signed"] == "right":
                body = base64.b64decode(each["body"]) + b" " * each.get("spaces", 0)
                yield f"{file.stem}/{each['name']}", body, each["answer"]


def test_vectors(paths, schema):
    """A body that a receiver has to accept is valid, and one that it has to
    refuse is not, if it is JSON at all."""
    validator = jsonschema.Draft202012Validator(schema)
    seen = {True: 0, False: 0}
    for name, body, answers in vectors(paths):
        try:
            valid = validator.is_valid(json.loads(body))
        except RecursionError:
            continue    # this library's limit, not the schema's
        except ValueError:
            valid = False
        if "200" not in answers or answers == ["200"]:
            assert valid == ("200" in answers), name
        seen[valid] += 1
    assert seen[True] > 20 and seen[False] > 5, seen


def is_day(text):
    """Returns true if the date exists; the schema does not know all months."""
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def test_timestamps(paths, schema):
    """The schema has the times of the unit test, but for days of the calendar."""
    source = (paths.source / "tests/unit/event/test_timestamp.c").read_text()
    cases = re.findall(r'\{ __LINE__, "([^"\\]*)",\s*(-1 )?', source)
    validator = jsonschema.Draft202012Validator(schema["properties"]["timestamp"])
    for text, refused in cases:
        if validator.is_valid(text) == bool(refused):
            assert refused and not is_day(text), text
    assert len(cases) > 60


def test_documented_statuses(schema, store):
    examples = schema["properties"]["status"]["examples"]
    assert sorted(examples) == sorted(row[0] for row in store.query("SELECT status FROM humcli.statuses"))


def test_openapi(api, paths):
    """Its schemas are schemas, and its examples are valid by them."""
    assert api["openapi"].startswith("3.1.") and api["webhooks"] and api["info"]["version"]
    version = re.search(r"AC_INIT\(\[[^]]*\],\s*\[([^]]*)\]", (paths.source / "configure.ac").read_text())[1]
    assert api["info"]["version"] == version
    media = 0
    nodes = [api]
    while nodes:
        node = nodes.pop()
        nodes += [each for each in (node.values() if isinstance(node, dict) else node)
                  if isinstance(each, (dict, list))]
        if isinstance(node, dict) and isinstance(node.get("content"), dict):
            for kind, content in node["content"].items():
                assert kind == "application/json"
                jsonschema.Draft202012Validator.check_schema(content["schema"])
                for example in content.get("examples", {}).values():
                    jsonschema.Draft202012Validator(content["schema"]).validate(example["value"])
                media += 1
    assert media > 10
    for path in api["paths"].values():
        for operation in path.values():
            assert operation["operationId"] and operation["responses"]


def check(answer, operation):
    """Holds an answer to the document."""
    response = operation["responses"][str(answer.status)]
    for name, header in response.get("headers", {}).items():
        jsonschema.Draft202012Validator(header["schema"]).validate(answer.header(name.lower()))
    content = response["content"][answer.header("content-type")]
    jsonschema.Draft202012Validator(content["schema"]).validate(json.loads(answer.body))
    return answer.status


@pytest.mark.parametrize("transport", [FastCGI, CGI])
def test_answers(transport, paths, store, api):
    """The receiver gives the answers of the document."""
    hook = api["webhooks"]["taskStatusChanged"]["post"]
    health = api["paths"]["/humcli/health"]["get"]
    body = event()
    with transport(paths.responder, store.conninfo) as it:
        seen = [check(it.post(body), hook), check(it.post(body), hook),
                check(it.post(b"[]"), hook), check(it.post(body, "whsec_other"), hook),
                check(it.request("PUT", body), hook), check(it.post(b"x" * 70000), hook),
                check(it.post(body, changes={"CONTENT_TYPE": "text/plain"}), hook),
                check(it.post(b"{}"), hook),
                check(it.request("GET", changes={"PATH_INFO": "/health"}), health)]
        assert seen == [200, 200, 400, 401, 405, 413, 415, 422, 200]
    with transport(paths.responder, "host=/nonexistent", DEADLINE="200ms") as it:
        assert check(it.post(body), hook) == 503
        assert check(it.request("GET", changes={"PATH_INFO": "/health"}), health) == 503
    with Spool() as spool, transport(paths.responder, "host=/nonexistent", DEADLINE="200ms",
                                     SPOOL=spool.path) as it:
        assert check(it.post(body), hook) == 200
    assert set(hook["responses"]) == {"200", "400", "401", "405", "408", "413", "415", "422", "503"}
