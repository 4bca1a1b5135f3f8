"""The HTTP contract, row by row. The same tests run by FastCGI and by CGI,
without a web server."""

import concurrent.futures
import datetime
import functools
import gzip
import json
import re
import socket
import subprocess
import threading
import time

import pytest

from harness import fastcgi
from harness.postgres_proxy import PostgresProxy
from harness.responder import (ABSENT, CGI, SECRET, FastCGI, event, eventually,
                               new_task, raw_event, sign, task_of, variables)

RECEIVED = b'{"received":true}'
DUPLICATE = b'{"received":true,"duplicate":true}'
MAX_BODY = 64 * 1024
OTHER = "whsec_of_another_task"
TRANSPORTS = {"fastcgi": FastCGI, "cgi": CGI}


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request):
    return TRANSPORTS[request.param]


@pytest.fixture(scope="module")
def responder(transport, paths, store):
    with transport(paths.responder, store.conninfo,
                   secrets={"main": SECRET, "other": OTHER}) as it:
        yield it


def check(answer, status, body=None):
    """Checks that status, headers and body are those of the contract."""
    assert answer.status == status, answer
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("allow") == ("POST" if status == 405 else None)
    assert {name for name, _ in answer.headers} <= {
        "status", "content-type", "cache-control", "allow", "retry-after"}
    if status != 503:
        assert answer.header("retry-after") is None
    if body is not None:
        assert answer.body == body
    elif status >= 400:
        error = json.loads(answer.body)
        assert list(error) == ["error"] and isinstance(error["error"], str)
        assert error["error"]
    return answer


def padded(size):
    """Returns a valid event of exactly that many bytes."""
    body = raw_event(',"note":""')
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def recorded(store, task):
    return store.query("SELECT status FROM humcli.events WHERE task_id = %s"
                       " ORDER BY id", task)


def quarantined(store, body, secret=SECRET):
    rows = store.query("SELECT reason, secret_name, body, seen"
                       " FROM humcli.quarantine WHERE signature = %s",
                       sign(body, secret))
    assert len(rows) <= 1
    return rows[0] if rows else None


# The success rows.

def test_recorded(responder, store):
    body = event(status="ACCEPTED", previous_status="ESTIMATE_PENDING",
                 timestamp="2026-03-01T12:34:56.789Z")
    check(responder.post(body), 200, RECEIVED)
    assert store.query(
        "SELECT event, status, previous_status, secret_name, signature,"
        " payload::text, first_of_status,"
        " (extract(epoch FROM occurred_at) * 1000000)::bigint,"
        " received_at BETWEEN now() - interval '20 s' AND now(),"
        " recorded_at BETWEEN received_at - interval '1 s' AND now()"
        " FROM humcli.events WHERE task_id = %s", task_of(body)) == [
            ("task.status_changed", "ACCEPTED", "ESTIMATE_PENDING", "main",
             sign(body), body.decode(), True,
             micros("2026-03-01T12:34:56.789+00:00"), True, True)]


# Computed by openssl dgst -hmac, not by the harness.
KNOWN_BODY = (b'{"event":"task.status_changed","task_id":"task_abc123",'
              b'"status":"SUBMITTED","previous_status":"IN_PROGRESS",'
              b'"timestamp":"2026-02-10T14:30:00.000Z"}')
KNOWN_SIGNATURE = "fbcde3b3f0c8e2663a13a15400cc59cd15761a4c0b521e5422624e2c1eb738b9"


def test_known_signature(responder):
    answer = check(responder.post(KNOWN_BODY, signature=KNOWN_SIGNATURE), 200)
    assert answer.body in (RECEIVED, DUPLICATE)


def test_duplicate(responder, store):
    body = event()
    check(responder.post(body), 200, RECEIVED)
    check(responder.post(body), 200, DUPLICATE)
    assert recorded(store, task_of(body)) == [("SUBMITTED",)]


def test_same_transition_in_other_bytes_is_a_duplicate(responder, store):
    body = event()
    check(responder.post(body), 200, RECEIVED)
    check(responder.post(body + b"\n"), 200, DUPLICATE)
    assert len(recorded(store, task_of(body))) == 1


def test_restamped_is_answered_as_a_duplicate(responder, store):
    task = new_task()
    check(responder.post(event(task_id=task)), 200, RECEIVED)
    again = event(task_id=task, timestamp="2026-03-01T12:00:07.000Z")
    check(responder.post(again), 200, DUPLICATE)
    assert len(recorded(store, task)) == 1
    assert store.query("SELECT count(*) FROM humcli.repeats"
                       " WHERE task_id = %s", task) == [(1,)]


def test_status_that_comes_again_is_recorded(responder, store):
    task = new_task()
    for minute, status in enumerate(["PENDING", "ESTIMATE_PENDING"] * 3):
        previous = ["ESTIMATE_PENDING", "PENDING"][minute % 2]
        check(responder.post(event(
            task_id=task, status=status, previous_status=previous,
            timestamp=f"2026-03-01T12:{minute:02}:00Z")), 200, RECEIVED)
    assert len(recorded(store, task)) == 6


def test_unknown_values_and_fields_pass(responder, store):
    body = event(event="task.exploded", status="TELEPORTED",
                 previous_status="\u00fcber", extra={"a": [1, None, {}]})
    check(responder.post(body), 200, RECEIVED)
    assert store.query("SELECT event, status, previous_status FROM"
                       " humcli.events WHERE task_id = %s", task_of(body)) \
        == [("task.exploded", "TELEPORTED", "\u00fcber")]


def test_timestamp_header_decides_nothing(responder):
    for value in ("2001-01-01T00:00:00.000Z", "", "yesterday", "\u00fc"):
        check(responder.post(event(), changes={"HTTP_X_TIMESTAMP": value}),
              200, RECEIVED)


def test_each_secret_and_its_name(responder, store):
    for secret, name in ((SECRET, "main"), (OTHER, "other")):
        body = event()
        check(responder.post(body, secret), 200, RECEIVED)
        assert store.query("SELECT secret_name FROM humcli.events"
                           " WHERE task_id = %s", task_of(body)) == [(name,)]


EXACT = {
    "spaces": b' {\t"event" : "task.status_changed",\r\n "task_id":"%s" ,'
              b'"status":"S", "timestamp":"2026-03-01T12:00:00Z" }\n ',
    "order": b'{"zz":1,"timestamp":"2026-03-01T12:00:00Z","status":"S",'
             b'"task_id":"%s","event":"e","aa":2}',
    "numbers": b'{"event":"e","task_id":"%s","status":"S","n":[1.0,1e2,-0,'
               b'9007199254740993,1E+400,0.1000000000000000055511151231],'
               b'"timestamp":"2026-03-01T12:00:00Z"}',
    "escapes": b'{"event":"\\u0065","task_id":"%s","status":"\\u0053",'
               b'"x":"\\/\\b\\f\\n\\r\\t\\"\\\\\\ud83d\\ude00\\u00fC",'
               b'"timestamp":"2026-03-01T12:00:00Z"}',
    "nul escape": b'{"event":"e","task_id":"%s","status":"S","x":"a\\u0000",'
                  b'"timestamp":"2026-03-01T12:00:00Z"}',
    "nul escape in a deep key": b'{"event":"e","task_id":"%s","status":"S",'
                                b'"x":{"a\\u0000b":1,"a":2},'
                                b'"timestamp":"2026-03-01T12:00:00Z"}',
    "utf-8": '{"event":"e","task_id":"%s","status":"S","x":"\u00e9\u4e16'
             '\U0001f600\ufeff","timestamp":"2026-03-01T12:00:00Z"}'.encode(),
    "other case": b'{"Task_ID":"no","TIMESTAMP":7,"event":"e","status":"S",'
                  b'"task_id":"%s","timestamp":"2026-03-01T12:00:00Z"}',
    "deep twice": b'{"event":"e","task_id":"%s","status":"S",'
                  b'"x":{"task_id":1,"task_id":2},'
                  b'"timestamp":"2026-03-01T12:00:00Z"}',
}


@pytest.mark.parametrize("name", EXACT)
def test_the_exact_bytes_are_kept(responder, store, name):
    """The signature of a recorded row is still valid."""
    task = new_task()
    body = EXACT[name].replace(b"%s", task.encode())
    check(responder.post(body), 200, RECEIVED)
    [(payload, signature)] = store.query(
        "SELECT payload::text, signature FROM humcli.events"
        " WHERE task_id = %s", task)
    assert payload.encode() == body
    assert sign(payload.encode()) == signature


# Size and length of the body.

def test_largest_body(responder, store):
    body = padded(MAX_BODY)
    assert len(body) == MAX_BODY
    check(responder.post(body), 200, RECEIVED)
    assert recorded(store, task_of(body))


@pytest.mark.parametrize("length", ["as it is", "absent", "unknown", "small"])
@pytest.mark.parametrize("size", [MAX_BODY + 1, 200_000])
def test_over_max_body(responder, store, size, length):
    """A body over MAX_BODY is refused by its CONTENT_LENGTH or while it is
    read."""
    body = padded(size)
    changes = {"as it is": {}, "absent": {"CONTENT_LENGTH": None},
               "unknown": {"CONTENT_LENGTH": "-1"},
               "small": {"CONTENT_LENGTH": "10"}}[length]
    check(responder.post(body, changes=changes), 413)
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("length", [
    "65537", "0065537", "4294967296", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "18446744073709551700",
    "9" * 400])
def test_length_too_large(responder, length):
    check(responder.post(event(), changes={"CONTENT_LENGTH": length}), 413)


@pytest.mark.parametrize("length", [
    "-2", "-01", "-0", "-10", "+5", "5 ", " 5", "5x", "x", "0x10", "1e2", "5.0", "5,5", "--5",
    "-18446744073709551616", "\u0665", "\u00e9", "."])
def test_length_that_is_no_number(responder, store, length):
    body = event()
    check(responder.post(body, changes={"CONTENT_LENGTH": length}), 400)
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("off", [-1, 1, -20, 20, 60000])
def test_length_that_lies(responder, store, off):
    body = event()
    check(responder.post(body, changes={
        "CONTENT_LENGTH": str(len(body) + off)}), 400)
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("length", [None, "", "-1", "0", "{}", "000{}"])
def test_length_as_servers_give_it(responder, store, length):
    """CONTENT_LENGTH may be absent or empty with a chunked body; Caddy says -1
    or 0. It may have leading zeros, as nginx accepts them."""
    body = event()
    if length:
        length = length.format(len(body))
    check(responder.post(body, changes={"CONTENT_LENGTH": length}), 200,
          RECEIVED)
    assert recorded(store, task_of(body))


@pytest.mark.parametrize("length", [None, "", "-1", "0", "00"])
def test_no_body(responder, length):
    """An empty body is treated like others: invalid JSON if it is signed, 401
    otherwise."""
    changes = {"CONTENT_LENGTH": length}
    check(responder.post(b"", changes=changes), 400)
    check(responder.post(b"", signature=None, changes=changes), 401,
          b'{"error":"Invalid signature"}')


# Method and health.

@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH",
                                    "OPTIONS", "post", "POSTS", "\u00e9"])
def test_other_methods(responder, method):
    answer = responder.request(method)
    if method == "HEAD":
        assert answer.body == b""
        assert answer.status == 405 and answer.header("allow") == "POST"
    else:
        check(answer, 405)


HEALTH = {
    "path info": {"PATH_INFO": "/health"},
    "script name": {"SCRIPT_NAME": "/hook/health"},
    "empty path info": {"SCRIPT_NAME": "/health", "PATH_INFO": ""},
    "document uri": {"DOCUMENT_URI": "/humcli-webhook/health"},
    "request uri": {"REQUEST_URI": "/health"},
    "request uri and query": {"REQUEST_URI": "/humcli/health?probe=/1"},
    "whole script name": {"SCRIPT_NAME": "/humcli/health", "CONTENT_LENGTH": "0",
                          "DOCUMENT_URI": "/humcli/health",
                          "REQUEST_URI": "/humcli/health"},
    "caddy": {"SCRIPT_NAME": "", "CONTENT_LENGTH": "0", "DOCUMENT_URI": "",
              "PATH_INFO": "/humcli/health", "REQUEST_URI": "/humcli/health"},
}


@pytest.mark.parametrize("way", HEALTH)
def test_health(responder, way):
    check(responder.request("GET", changes=HEALTH[way]), 200,
          b'{"status":"ok"}')
    check(responder.request("HEAD", changes=HEALTH[way]), 200, b"")


@pytest.mark.parametrize("changes", [
    {"PATH_INFO": "/other", "SCRIPT_NAME": "/hook/health"},
    {"PATH_INFO": "/health/"}, {"PATH_INFO": "/healthy"},
    {"PATH_INFO": "/HEALTH"}, {"PATH_INFO": "/x/health"},
    {"PATH_INFO": "health"}, {"SCRIPT_NAME": "/unhealth"},
    {"PATH_INFO": "/x", "REQUEST_URI": "/health"},
    {"REQUEST_URI": "/humcli?x=/health"}, {"QUERY_STRING": "/health"}])
def test_what_is_not_health(responder, changes):
    check(responder.request("GET", changes=changes), 405)


def test_post_to_health_is_a_delivery(responder, store):
    body = event()
    check(responder.post(body, changes={"PATH_INFO": "/health"}), 200,
          RECEIVED)
    check(responder.post(event(), signature=None,
                         changes={"PATH_INFO": "/health"}), 401)


# Content type.

@pytest.mark.parametrize("value", [
    "application/json", "Application/JSON", "APPLICATION/JSON",
    "application/json; charset=utf-8", "application/json;charset=UTF-8",
    'application/json ; charset="utf-8"; v=1', "application/json;",
    "application/json\t;x=y"])
def test_content_type_that_passes(responder, value):
    check(responder.post(event(), changes={"CONTENT_TYPE": value}), 200,
          RECEIVED)


@pytest.mark.parametrize("value", [
    None, "", "text/plain", "application/jsonx", "application/json5",
    "application/json-patch+json", "application/vnd.api+json",
    "application", "application/", "json", "/json", "xapplication/json",
    "text/plain; application/json", "application/json, text/plain",
    "application / json", "\u00e9", ";", "application/x-www-form-urlencoded"])
def test_content_type_that_does_not(responder, store, value):
    body = event()
    check(responder.post(body, changes={"CONTENT_TYPE": value}), 415)
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("value", ["", "identity", "IDENTITY"])
def test_content_encoding_that_passes(responder, value):
    check(responder.post(event(), changes={"HTTP_CONTENT_ENCODING": value}),
          200, RECEIVED)


@pytest.mark.parametrize("value", [
    "gzip", "br", "x-gzip", "identity, gzip", "gzip, identity", "identit",
    "identity;q=1", "\u00e9"])
def test_content_encoding_that_does_not(responder, store, value):
    """It is 415 also if the signature fits the bytes that arrived."""
    body = event()
    answer = check(responder.post(
        body, changes={"HTTP_CONTENT_ENCODING": value}), 415)
    assert b"Content-Encoding" in answer.body
    assert not recorded(store, task_of(body))


def test_content_encoding_of_a_compressed_body(responder):
    answer = responder.post(gzip.compress(event()),
                            changes={"HTTP_CONTENT_ENCODING": "gzip"})
    assert b"Content-Encoding" in check(answer, 415).body


# A path that names the secret.

SECRET_PATHS = {
    "path info": lambda name: {"PATH_INFO": "/" + name},
    "caddy": lambda name: {
        "SCRIPT_NAME": "", "DOCUMENT_URI": "", "PATH_INFO": "/humcli/" + name,
        "REQUEST_URI": "/humcli/" + name, "CONTENT_LENGTH": "-1"},
    "whole script name": lambda name: {
        "SCRIPT_NAME": "/humcli/" + name, "DOCUMENT_URI": "/humcli/" + name,
        "REQUEST_URI": "/humcli/" + name, "CONTENT_LENGTH": "-1"},
    "uri behind the script": lambda name: {
        "DOCUMENT_URI": "/humcli-webhook/" + name,
        "REQUEST_URI": f"/humcli-webhook/{name}?x=1"},
    "uri alone": lambda name: {
        "SCRIPT_NAME": None, "REQUEST_URI": "/humcli-webhook/" + name},
}


@pytest.mark.parametrize("way", SECRET_PATHS)
def test_secret_of_the_path(responder, store, way):
    for name, secret, status in (("main", SECRET, 200), ("other", OTHER, 200),
                                 ("main", OTHER, 401), ("other", SECRET, 401),
                                 ("nobody", SECRET, 401), ("Main", SECRET, 401),
                                 ("..", OTHER, 401), ("main/x", SECRET, 401),
                                 ("main/", SECRET, 401), ("ma%20in", SECRET, 401),
                                 ("m" * 65, SECRET, 401), (".main", SECRET, 401),
                                 ("health", SECRET, 200)):
        body = event()
        answer = responder.post(body, secret, changes=SECRET_PATHS[way](name))
        check(answer, status, RECEIVED if status == 200
              else b'{"error":"Invalid signature"}')
        assert len(recorded(store, task_of(body))) == (status == 200)


@pytest.mark.parametrize("changes", [
    {"SCRIPT_NAME": "/hooks/humcli"}, {"PATH_INFO": "/"}, {"PATH_INFO": ""},
    {"SCRIPT_NAME": "/humcli/"}, {"SCRIPT_NAME": "/cgi-bin/humcli-webhook.fcgi",
                                  "REQUEST_URI": "/cgi-bin/humcli-webhook.fcgi"},
    {"SCRIPT_NAME": "/humcli/hook", "SCRIPT_FILENAME": "/bin/sh"},
    {"REQUEST_URI": "/hook?next=/nobody"}])
def test_path_that_names_no_secret(responder, changes):
    """All secrets are tried."""
    check(responder.post(event(), OTHER, changes=changes), 200, RECEIVED)


# Signatures.

WRONG = {
    "missing": lambda s, b: None,
    "empty": lambda s, b: "",
    "63 digits": lambda s, b: s[:-1],
    "65 digits": lambda s, b: s + "0",
    "128 digits": lambda s, b: s + s,
    "prefix": lambda s, b: "sha256=" + s,
    "0x": lambda s, b: "0x" + s[2:],
    "space before": lambda s, b: " " + s,
    "space behind": lambda s, b: s + " ",
    "newline behind": lambda s, b: s + "\n",
    "g": lambda s, b: "g" + s[1:],
    "not ascii": lambda s, b: "\u00e9" * 32,
    "full width digits": lambda s, b: "\uff11" * 64,
    "comma": lambda s, b: s + ", " + s,
    "trailing comma": lambda s, b: s + ",",
    "zeros": lambda s, b: "0" * 64,
    "first bit": lambda s, b: f"{int(s[0], 16) ^ 8:x}" + s[1:],
    "last bit": lambda s, b: s[:-1] + f"{int(s[-1], 16) ^ 1:x}",
    "other secret": lambda s, b: sign(b, "whsec_nobody"),
    "secret without its prefix": lambda s, b: sign(b, SECRET[6:]),
    "secret with a newline": lambda s, b: sign(b, SECRET + "\n"),
    "other body": lambda s, b: sign(b + b" "),
    "body of none": lambda s, b: sign(b""),
    "empty key": lambda s, b: sign(b, ""),
    "base64": lambda s, b: "mJ8s8q0jJrW1zq4m0wN0m4u0c7r1j0H3q0n5b8W0i2E=",
    "name of the secret": lambda s, b: "main",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_signature(responder, store, name):
    body = event()
    check(responder.post(body, signature=WRONG[name](sign(body), body)), 401,
          b'{"error":"Invalid signature"}')
    assert not recorded(store, task_of(body))
    assert quarantined(store, body) is None


def test_signature_in_capitals(responder, store):
    body = event()
    check(responder.post(body, signature=sign(body).upper()), 200, RECEIVED)
    [(kept,)] = store.query("SELECT signature FROM humcli.events"
                            " WHERE task_id = %s", task_of(body))
    assert kept == sign(body)


@pytest.mark.parametrize("second", ["same", "wrong", ""])
def test_two_signatures(responder, store, second):
    """Two signatures are refused: two variables, as nginx passes them, and as
    lighttpd passes X_Signature."""
    if isinstance(responder, CGI):
        pytest.skip("an environment has each name once")
    body = event()
    right = sign(body)
    other = {"same": right, "wrong": "0" * 64, "": ""}[second]
    for first, last in ((right, other), (other, right)):
        check(responder.post(body, signature=first,
                             more=[("HTTP_X_SIGNATURE", last)]), 401,
              b'{"error":"Invalid signature"}')
    assert not recorded(store, task_of(body))


def test_signature_is_taken_from_its_header_alone(responder):
    body = event()
    for name in ("X_SIGNATURE", "HTTP_SIGNATURE", "http_x_signature",
                 "HTTP_X_SIGNATURE_256", "HUMCLI_X_SIGNATURE"):
        check(responder.post(body, signature=None,
                             changes={name: sign(body)}), 401)


def test_settings_are_not_taken_from_a_request(responder):
    if isinstance(responder, CGI):
        pytest.skip("there both are one environment")
    body = event()
    check(responder.post(body, "mine", changes={
        "HUMCLI_WEBHOOK_SECRET": "mine", "HTTP_HUMCLI_WEBHOOK_SECRET": "mine",
        "HUMCLI_WEBHOOK_SECRET_DIR": "/tmp"}), 401)


def test_the_log_says_why(responder):
    """The answer does not name the reason of a 401, but the log does."""
    def logged(signature):
        before = len(responder.log())
        check(responder.post(event(), signature=signature), 401)
        assert eventually(lambda: "\n" in responder.log()[before:])
        return re.sub(r"\b(time|pid|ms)=\S+", "", responder.log()[before:])

    assert len({logged(s) for s in (None, "0" * 64, "short", "0,0")}) == 4


# Signed bodies that are no events.

MALFORMED = {
    "null": b"null", "true": b"true", "number": b"1", "string": b'"x"',
    "array": b"[]", "array of events": b"[%E]",
    "spaces": b"  \n", "text": b"hello", "form": b"event=x&task_id=y",
    "xml": b"<event/>", "open": b"{", "half": b'{"event":"x","task',
    "two": b"%E%E", "text behind": b"%E x", "comma behind": b"%E,",
    "brace behind": b"%E}", "text before": b"x%E", "comma before": b",%E",
    "BOM": b"\xef\xbb\xbf%E", "UTF-16": b"\xff\xfe{\0}\0",
    "raw NUL behind": b"%E\0", "raw NUL before": b"\0%E",
    "text after a NUL": b'%E\0{"status":"EVIL"}',
    "raw NUL in a string": b'%X,"x":"a\0b"}',
    "raw NUL in a key": b'%X,"a\0b":1}',
    "leading zero": b'%X,"x":01}', "minus zero one": b'%X,"x":-01}',
    "plus": b'%X,"x":+1}', "point first": b'%X,"x":.5}',
    "point last": b'%X,"x":1.}', "hex": b'%X,"x":0x10}',
    "exponent": b'%X,"x":1e}', "minus": b'%X,"x":-}',
    "NaN": b'%X,"x":NaN}', "Infinity": b'%X,"x":-Infinity}',
    "True": b'%X,"x":True}', "nul": b'%X,"x":nul}',
    "trailing comma": b'%X,}', "comma in array": b'%X,"x":[1,]}',
    "two commas": b'%X,,"x":1}', "no value": b'%X,"x"}',
    "no colon": b'%X,"x" 1}', "number as key": b'%X,1:2}',
    "bare key": b'%X,x:2}', "single quotes": b"%X,'x':1}",
    "comment": b'%X/* c */}', "line comment": b'%X// c\n}',
    "raw newline": b'%X,"x":"a\nb"}', "raw tab": b'%X,"x":"a\tb"}',
    "raw 0x01": b'%X,"x":"\x01"}', "raw newline in a key": b'%X,"x\n":1}',
    "bad escape": b'%X,"x":"\\x41"}', "escape at end": b'%X,"x":"\\',
    "short \\u": b'%X,"x":"\\u12"}', "bad \\u": b'%X,"x":"\\u12g4"}',
    "vertical tab": b'%X,\x0b"x":1}', "no-break space": b'%X,\xc2\xa0"x":1}',
    "form feed": b'\x0c%E',
    "byte ff": b'%X,"x":"\xff"}', "lone continuation": b'%X,"x":"\x80"}',
    "overlong": b'%X,"x":"\xc0\xaf"}', "overlong 3": b'%X,"x":"\xe0\x80\xaf"}',
    "surrogate in UTF-8": b'%X,"x":"\xed\xa0\x80"}',
    "over U+10FFFF": b'%X,"x":"\xf4\x90\x80\x80"}',
    "cut UTF-8": b'%X,"x":"\xe4\xb8"}', "cut at the end": b'%E\xe4\xb8',
    "Latin-1": b'%X,"x":"caf\xe9"}', "bad UTF-8 in a key": b'%X,"\xff":1}',
    "10,000 open": b'%X,"x":' + b"[" * 10000,
    "unclosed string": b'%X,"x":"', "unclosed brace": b'%X,"x":1',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_signed_but_not_json(responder, store, name):
    whole = event()
    body = MALFORMED[name].replace(b"%E", whole).replace(b"%X", whole[:-1])
    before = quarantined(store, body)
    check(responder.post(body), 400)
    reason, secret_name, kept, seen = quarantined(store, body)
    assert bytes(kept) == body
    assert reason and secret_name == "main"
    assert seen == (before[3] if before else 0) + 1
    assert not recorded(store, task_of(whole))


# Only the needed fields are judged: what else PostgreSQL's json accepts is
# recorded, with its exact text.
READABLE = {
    "high surrogate": b'%X,"x":"\\ud800"}',
    "low surrogate": b'%X,"x":"\\udc00"}',
    "surrogates swapped": b'%X,"x":"\\udc00\\ud800"}',
    "high surrogate and text": b'%X,"x":"\\ud800abcdef"}',
    "high surrogate and letter": b'%X,"x":"\\ud800\\u0041"}',
    "surrogate in a key": b'%X,"\\ud800":1}',
    "surrogate behind a needed key": b'%X,"task_id\\ud800":1}',
    "surrogate in an unknown field": b'%X,"previous":"\\udfff"}',
    "surrogate in the depth": b'%X,"x":[{"a":["\\udbff"]}]}',
    "NUL in a value": b'%X,"x":"\\u0000"}', "NUL in a key": b'%X,"\\u0000":1}',
    "NUL in the middle of a key": b'%X,"x\\u0000y":1}',
    "NUL in the depth": b'%X,"x":{"a\\u0000":["\\u0000"]}}',
    "key twice": b'%X,"x":1,"x":2}', "key a thousand times": b"%X" + b',"x":1' * 1000 + b"}",
    "key twice by an escape": b'%X,"x":1,"\\u0078":2}',
    "empty key twice": b'%X,"":1,"":2}', "needed key twice in the depth":
    b'%X,"x":{"status":1,"status":2}}',
    "1,001 deep": b'%X,"x":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "1,001 objects deep": b'%X,"x":' + b'{"":' * 1000 + b"1" + b"}" * 1000 + b"}",
    "5,000 deep": b'%X,"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "10,000 digits": b'%X,"x":' + b"1" * 10000 + b"}",
    "10,000 digits below zero": b'%X,"x":-' + b"9" * 10000 + b"}",
    "10,000 digits behind the point": b'%X,"x":0.' + b"1" * 10000 + b"}",
    "exponent of 10,000 digits": b'%X,"x":1e' + b"9" * 10000 + b"}",
    "64 digits": b'%X,"x":1' + b"0" * 63 + b"}", "1e400": b'%X,"x":1e400}',
    "1e-400": b'%X,"x":1e-400}',
    "a needed key in escapes": b"%K",
}


@pytest.mark.parametrize("name", READABLE)
def test_readable_is_recorded(responder, store, name):
    whole = event()
    task = task_of(whole)
    escaped = whole.replace(b'"task_id"', b'"\\u0074ask\\u005Fid"')
    body = READABLE[name].replace(b"%X", whole[:-1]).replace(b"%K", escaped)
    check(responder.post(body), 200, RECEIVED)
    [(payload, signature)] = store.query(
        "SELECT payload::text, signature FROM humcli.events"
        " WHERE task_id = %s", task)
    assert payload.encode() == body
    assert sign(payload.encode()) == signature
    assert quarantined(store, body) is None
    check(responder.post(body), 200, DUPLICATE)


def test_deeper_than_postgresql_goes(responder, store):
    """max_stack_depth decides: 54001. The body is kept in the quarantine."""
    body = raw_event(b',"x":' + b"[" * 32000 + b"]" * 32000)
    check(responder.post(body), 422)
    assert bytes(quarantined(store, body)[2]) == body
    assert not recorded(store, task_of(body))


TOKENS = [b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"0", b"1", b"e", b".",
          b"-", b"+", b"true", b"null", b"nul", b" ", b"\n", b"\t", b"\x0b", b"\x7f", b"\x01",
          b'"x":1', b',"y":[]', b"\\u0000", b"\\ud800", b"00", b"1e5", b"/", b"\xc2\xa0"]
IS_OBJECT = """
CREATE OR REPLACE FUNCTION pg_temp.is_object(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN json_typeof($1::json) = 'object';
EXCEPTION WHEN OTHERS THEN
	RETURN false;
END $$"""


def mutated(rng, body):
    body = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body))
        body[at:at + rng.randint(0, 2)] = rng.choice(TOKENS)
    return bytes(body)


def test_json_as_postgresql_reads_it(responder, store, rng):
    """400 is for what PostgreSQL's json refuses, and for nothing else."""
    if isinstance(responder, CGI):
        pytest.skip("the same code, a process for each body")
    seed = raw_event(b',"x":{"a":[1,-0.5e+10,true,null,{"b":"\\u00e9\\n"},[],{}],"":"y"}')
    store.query(IS_OBJECT)
    differ = []
    for body in {mutated(rng, seed) for _ in range(1000)}:
        try:
            [(is_object,)] = store.query("SELECT pg_temp.is_object(%s)", body.decode())
        except UnicodeDecodeError:
            is_object = False
        if (responder.post(body).status != 400) != is_object:
            differ.append(body)
    assert not differ


NEEDED = ("event", "task_id", "status", "timestamp")
NOT_STRINGS = {"null": None, "number": 7, "true": True, "array": ["x"],
               "object": {"x": "y"}}


def refused_field(responder, store, body, field, task=None):
    """Checks for a 422 whose answer names the field, with the body
    quarantined."""
    before = quarantined(store, body)
    answer = check(responder.post(body), 422)
    if field:
        assert field in json.loads(answer.body)["error"]
    reason, secret_name, kept, seen = quarantined(store, body)
    assert bytes(kept) == body and secret_name == "main" and reason
    assert not field or field in reason
    assert seen == (before[3] if before else 0) + 1
    if task:
        assert not recorded(store, task)


@pytest.mark.parametrize("field", NEEDED)
@pytest.mark.parametrize("kind", ["missing", "empty", *NOT_STRINGS])
def test_field_missing_or_of_the_wrong_type(responder, store, field, kind):
    value = {"missing": ABSENT, "empty": "", **NOT_STRINGS}[kind]
    refused_field(responder, store, event(**{field: value}, nonce=new_task()),
                  field)


@pytest.mark.parametrize("kind", sorted(set(NOT_STRINGS) - {"null"}))
def test_previous_status_of_the_wrong_type(responder, store, kind):
    task = new_task()
    refused_field(responder, store,
                  event(task_id=task, previous_status=NOT_STRINGS[kind]),
                  "previous_status", task)


@pytest.mark.parametrize("field", ["event", "task_id", "status",
                                   "previous_status"])
@pytest.mark.parametrize("fits, unit, count", [
    (True, "x", 200), (False, "x", 201),
    (True, "\u00e9", 100), (False, "\u00e9", 101),
    (True, "\U0001f600", 50), (False, "\U0001f600", 51),
    (True, "\\u0041", 200), (False, "\\u0041", 201),
    (False, "x", 20000)])
def test_length_of_a_field(responder, store, field, fits, unit, count):
    """The limit is 200 bytes of UTF-8, counted without escapes."""
    text = unit * count
    nonce = new_task()
    fields = {"event": "e", "task_id": nonce, "status": "S",
              "previous_status": "P", "timestamp": "2026-03-01T12:00:00Z",
              "nonce": nonce, field: text}
    body = ("{" + ",".join(f'"{k}":"{v}"' for k, v in fields.items())
            + "}").encode()
    if fits:
        answer = check(responder.post(body), 200)
        assert answer.body in (RECEIVED, DUPLICATE)
        value = text.replace("\\u0041", "A")
        assert store.query(f"SELECT 1 FROM humcli.events WHERE {field} = %s"
                           " LIMIT 1", value)
    else:
        refused_field(responder, store, body, field)


@pytest.mark.parametrize("field", [*NEEDED, "previous_status"])
@pytest.mark.parametrize("text", ["\\u0000", "a\\u0000", "a\\u0000b",
                                  "\\\\\\u0000"])
def test_nul_in_a_field(responder, store, field, text):
    task = new_task()
    fields = {"event": "e", "task_id": task, "status": "S",
              "timestamp": "2026-03-01T12:00:00Z"}
    fields[field] = fields.get(field, "") + text
    body = ("{" + ",".join(f'"{k}":"{v}"' for k, v in fields.items())
            + "}").encode()
    refused_field(responder, store, body, field, task)


@pytest.mark.parametrize("field", [*NEEDED, "previous_status"])
@pytest.mark.parametrize("text", ["\\ud800", "a\\udfff", "\\udc00\\ud800"])
def test_lone_surrogate_in_a_field(responder, store, field, text):
    """No text of PostgreSQL can hold it."""
    task = new_task()
    fields = {"event": "e", "task_id": task, "status": "S",
              "timestamp": "2026-03-01T12:00:00Z"}
    fields[field] = fields.get(field, "") + text
    body = ("{" + ",".join(f'"{k}":"{v}"' for k, v in fields.items())
            + "}").encode()
    refused_field(responder, store, body, field, task)


def test_what_only_looks_like_nul(responder, store):
    """An escaped backslash before u0000 is no NUL."""
    body = event(status="a\\u0000b")
    check(responder.post(body), 200, RECEIVED)
    assert recorded(store, task_of(body)) == [("a\\u0000b",)]


@pytest.mark.parametrize("field", [*NEEDED, "previous_status"])
@pytest.mark.parametrize("form", ['"{}":"again"', '"{}":null',
                                  '"{}":{{"x":1}}', '"{escaped}":"again"',
                                  '"{same}":{value}'])
def test_field_given_twice(responder, store, field, form):
    """A field given twice is refused, also with an escaped key and in any order
    of the values."""
    task = new_task()
    whole = event(task_id=task)
    escaped = "".join(f"\\u{ord(c):04X}" for c in field)
    more = form.format(field, escaped=escaped, same=field,
                       value=json.dumps(json.loads(whole)[field])).encode()
    refused_field(responder, store, whole[:-1] + b"," + more + b"}", field,
                  task)
    refused_field(responder, store, b"{" + more + b"," + whole[1:], field,
                  task)


@pytest.mark.parametrize("key", ["task_id\\u0000zzz", "status\\u0000",
                                 "\\u0073tatus\\u0000"])
def test_nul_in_a_needed_key(responder, store, key):
    """A NUL in a key is refused, because cJSON would read the first of these
    keys as task_id."""
    task = new_task()
    refused_field(responder, store,
                  raw_event(f',"{key}":"x"', task), None, task)


def test_fields_are_looked_up_in_their_case(responder, store):
    for field in NEEDED:
        task = new_task()
        body = event(task_id=task).replace(f'"{field}"'.encode(),
                                           f'"{field.title()}"'.encode())
        refused_field(responder, store, body, field, task)


@pytest.mark.parametrize("given, kept", [
    (None, None), (ABSENT, None), ("", None), ("PENDING", "PENDING")])
def test_previous_status(responder, store, given, kept):
    body = event(previous_status=given)
    check(responder.post(body), 200, RECEIVED)
    assert store.query("SELECT previous_status FROM humcli.events"
                       " WHERE task_id = %s", task_of(body)) == [(kept,)]


def test_quarantine_counts_repetitions(responder, store):
    body = event(task_id=7, nonce=new_task())
    for seen in (1, 2, 3):
        check(responder.post(body), 422)
        assert quarantined(store, body)[3] == seen


def test_quarantine_names_the_secret(responder, store):
    body = event(task_id=7, nonce=new_task())
    check(responder.post(body, OTHER), 422)
    assert quarantined(store, body, OTHER)[1] == "other"


# Timestamps.

def micros(iso):
    zero = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (datetime.datetime.fromisoformat(iso) - zero) \
        // datetime.timedelta(microseconds=1)


GOOD_TIMES = {
    "2026-03-01T12:34:56Z": "2026-03-01T12:34:56+00:00",
    "2026-03-01T12:34:56.7Z": "2026-03-01T12:34:56.700000+00:00",
    "2026-03-01T12:34:56.789Z": "2026-03-01T12:34:56.789000+00:00",
    "2026-03-01T12:34:56.123456Z": "2026-03-01T12:34:56.123456+00:00",
    "2026-03-01T12:34:56.000001Z": "2026-03-01T12:34:56.000001+00:00",
    "2026-03-01T12:34:56.1234569Z": "2026-03-01T12:34:56.123456+00:00",
    f"2026-03-01T12:34:56.{'9' * 170}Z": "2026-03-01T12:34:56.999999+00:00",
    "2026-03-01T12:34:56.0000000Z": "2026-03-01T12:34:56+00:00",
    "2026-03-01t12:34:56z": "2026-03-01T12:34:56+00:00",
    "2026-03-01T12:34:56+00:00": "2026-03-01T12:34:56+00:00",
    "2026-03-01T12:34:56-00:00": "2026-03-01T12:34:56+00:00",
    "2026-03-01T12:34:56+05:30": "2026-03-01T07:04:56+00:00",
    "2026-03-01T12:34:56 +05:30": "2026-03-01T07:04:56+00:00",
    "2026-03-01T12:34:56 UTC": "2026-03-01T12:34:56+00:00",
    "2026-03-01T00:30:00+01:00": "2026-02-28T23:30:00+00:00",
    "2026-03-01T12:34:56.5-23:59": "2026-03-02T12:33:56.500000+00:00",
    "2026-03-01T12:34:56+23:59": "2026-02-28T12:35:56+00:00",
    "2024-02-29T00:00:00Z": "2024-02-29T00:00:00+00:00",
    "2000-02-29T00:00:00Z": "2000-02-29T00:00:00+00:00",
    "2026-12-31T23:59:59.999999Z": "2026-12-31T23:59:59.999999+00:00",
    "2016-12-31T23:59:60Z": "2017-01-01T00:00:00+00:00",
    "1990-12-31T15:59:60-08:00": "1991-01-01T00:00:00+00:00",
    "1969-12-31T23:59:59.5Z": "1969-12-31T23:59:59.500000+00:00",
    "1900-03-01T00:00:00Z": "1900-03-01T00:00:00+00:00",
    # What common libraries write in place of RFC 3339.
    "2026-03-01 12:34:56Z": "2026-03-01T12:34:56+00:00",
    "2026-03-01 12:34:56+00:00": "2026-03-01T12:34:56+00:00",
    "2026-03-01 12:34:56.789+00": "2026-03-01T12:34:56.789000+00:00",
    "2026-03-01T12:34Z": "2026-03-01T12:34:00+00:00",
    "2026-03-01T12:34+01:00": "2026-03-01T11:34:00+00:00",
    "2026-03-01 12:34-0430": "2026-03-01T17:04:00+00:00",
    "2026-03-01T12:34:56,5Z": "2026-03-01T12:34:56.500000+00:00",
    "2026-03-01T12:34:56,1234567+02:00": "2026-03-01T10:34:56.123456+00:00",
    "2026-03-01T12:34:56+0000": "2026-03-01T12:34:56+00:00",
    "2026-03-01T12:34:56.000+0530": "2026-03-01T07:04:56+00:00",
    "2026-03-01T12:34:56-0800": "2026-03-01T20:34:56+00:00",
    "2026-03-01T12:34:56+05": "2026-03-01T07:34:56+00:00",
    "2026-03-01T12:34:56+14": "2026-02-28T22:34:56+00:00",
    "2026-03-01T12:34:56-12": "2026-03-02T00:34:56+00:00",
    "2026-02-28T24:00:00Z": "2026-03-01T00:00:00+00:00",
    "2026-12-31T24:00:00.000Z": "2027-01-01T00:00:00+00:00",
    "2026-03-01T24:00+14:00": "2026-03-01T10:00:00+00:00",
    "2016-12-31T23:59:60.75Z": "2017-01-01T00:00:00.750000+00:00",
    "2016-12-31 23:59:60+0000": "2017-01-01T00:00:00+00:00",
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59.999999+00:00",
}

BAD_TIMES = [
    "2026-03-01", "2026-03-01T", "12:34:56Z", "2026-03-01T12:34:56",
    "2026-03-01T12Z", "2026-03-01T25:00:00Z", "2026-03-01T12:60:00Z",
    "2026-03-01T12:34:61Z", "2026-03-01T12:34:99Z", "2026-13-01T12:34:56Z",
    "2026-00-01T12:34:56Z", "2026-03-00T12:34:56Z", "2026-03-32T12:34:56Z",
    "2026-04-31T12:34:56Z", "2026-02-29T12:34:56Z", "2023-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2024-02-30T00:00:00Z",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z",
    "+2026-03-01T12:34:56Z", "026-03-01T12:34:56Z", "26-03-01T12:34:56Z",
    "2026-3-1T12:34:56Z", "2026-03-01T1:34:56Z", "20260301T123456Z",
    "2026-W09-7T12:34:56Z", "2026-060T12:34:56Z", "2026/03/01T12:34:56Z",
    "2026-03-01T12:34:56.Z", "2026-03-01T12:34:56,Z",
    "2026-03-01 12:34:56", "2026-03-01T12:34", "2026-03-01T24:00:00",
    "2026-03-01T24:00:01Z", "2026-03-01T24:01Z", "2026-03-01T24:00:00.5Z",
    "2026-03-01T12:34:Z", "2026-03-01T12:34:5Z", "2026-03-01T12:34:56+1",
    "2026-03-01T12:34:56+010", "2026-03-01T12:34:56+2400",
    "2026-03-01T12:34:56+24", "2026-03-01T12:34:56+0060",
    "2026-03-01  12:34:56Z", "2026-03-01_12:34:56Z",
    "2026-03-01T12:34:56.5.5Z", "2026-03-01T12:34.5Z",
    "2026-03-01T12:34:56.-5Z", "2026-03-01T12:34:56+24:00",
    "2026-03-01T12:34:56+05:60", "2026-03-01T12:34:56+5:30",
    "2026-03-01T12:34:56\u221205:00",
    "2026-03-01T12:34:56ZZ", "2026-03-01T12:34:56Z ",
    " 2026-03-01T12:34:56Z", "2026-03-01T12:34:56Z\n",
    "2026-03-01T12:34:56Z+00:00", "2026-03-01T12:34:56[UTC]", "2026-03-01T12:34:56Zx", "1772368496",
    "1772368496000", "now", "infinity", "-infinity", "epoch", "today",
    "2026-03-01T12:34:56a", "Sun, 01 Mar 2026 12:34:56 GMT",
    "2026-03-01T12:34:5\uff16Z", "\u0662026-03-01T12:34:56Z",
    f"2026-03-01T12:34:56.{'9' * 181}Z",
]


@pytest.mark.parametrize("text", GOOD_TIMES)
def test_timestamp(responder, store, text):
    body = event(timestamp=text)
    check(responder.post(body), 200, RECEIVED)
    assert store.query(
        "SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint"
        " FROM humcli.events WHERE task_id = %s", task_of(body)) \
        == [(micros(GOOD_TIMES[text]),)]


@pytest.mark.parametrize("text", BAD_TIMES)
def test_no_timestamp(responder, store, text):
    task = new_task()
    refused_field(responder, store, event(task_id=task, timestamp=text),
                  "timestamp", task)


# The order of the checks: each request fails two checks, and the first one
# counts.

def over(body):
    return {"CONTENT_LENGTH": str(MAX_BODY + 1)}


ORDER = {
    "health before method": (200, {"REQUEST_METHOD": "GET",
                                   "PATH_INFO": "/health",
                                   "CONTENT_LENGTH": "99999999"}),
    "method before size": (405, {"REQUEST_METHOD": "PUT",
                                 "CONTENT_LENGTH": "99999999"}),
    "method before length": (405, {"REQUEST_METHOD": "PUT",
                                   "CONTENT_LENGTH": "x"}),
    "method before type": (405, {"REQUEST_METHOD": "PUT",
                                 "CONTENT_TYPE": "text/plain"}),
    "method before signature": (405, {"REQUEST_METHOD": "PUT",
                                      "HTTP_X_SIGNATURE": "bad"}),
    "size before lie": (413, {"CONTENT_LENGTH": "65537"}),
    "size before type": (413, {"CONTENT_LENGTH": "65537",
                               "CONTENT_TYPE": "text/plain"}),
    "size before signature": (413, {"CONTENT_LENGTH": "65537",
                                    "HTTP_X_SIGNATURE": "bad"}),
    "length before type": (400, {"CONTENT_LENGTH": "7",
                                 "CONTENT_TYPE": "text/plain"}),
    "no number before type": (400, {"CONTENT_LENGTH": "x",
                                    "CONTENT_TYPE": None}),
    "length before signature": (400, {"CONTENT_LENGTH": "7",
                                      "HTTP_X_SIGNATURE": "bad"}),
    "length before encoding": (400, {"CONTENT_LENGTH": "7",
                                     "HTTP_CONTENT_ENCODING": "gzip"}),
    "encoding before signature": (415, {"HTTP_CONTENT_ENCODING": "gzip",
                                        "HTTP_X_SIGNATURE": "bad"}),
    "type before signature": (415, {"CONTENT_TYPE": "text/plain",
                                    "HTTP_X_SIGNATURE": "bad"}),
    "type before no signature": (415, {"CONTENT_TYPE": None,
                                       "HTTP_X_SIGNATURE": None}),
}


@pytest.mark.parametrize("name", ORDER)
def test_order(responder, store, name):
    status, changes = ORDER[name]
    body = event()
    check(responder.post(body, changes=changes), status)
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("body", [b"no JSON", b"{}", b"\xff", b"{\0}"])
def test_signature_before_json(responder, store, body):
    check(responder.post(body, "whsec_wrong"), 401,
          b'{"error":"Invalid signature"}')
    assert quarantined(store, body, "whsec_wrong") is None


def test_size_before_type_while_reading(responder):
    check(responder.post(padded(MAX_BODY + 1), changes={
        "CONTENT_LENGTH": None, "CONTENT_TYPE": "text/plain"}), 413)


def test_json_before_fields(responder):
    check(responder.post(b'{"task_id":7,"x":}'), 400)


# Bodies that do not arrive.

def slow_fastcgi(responder, body, rest):
    """Sends half a body, then calls rest; returns the answer and its time."""
    params = variables(body=body, changes={"HTTP_X_SIGNATURE": sign(body)})
    with responder.connect() as connection:
        start = time.monotonic()
        connection.send(fastcgi.head(params.items())
                        + fastcgi.stream(fastcgi.STDIN, body[:20]))
        stop = threading.Event()
        writer = threading.Thread(target=rest, args=(
            lambda b: connection.send(fastcgi.record(fastcgi.STDIN, b)),
            body[20:], stop))
        writer.start()
        try:
            answer = connection.answer()
            return answer, time.monotonic() - start
        finally:
            stop.set()
            writer.join()


def slow_cgi(responder, body, rest):
    process = responder.start(
        variables(body=body, changes={"HTTP_X_SIGNATURE": sign(body)}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    start = time.monotonic()
    process.stdin.write(body[:20])
    stop = threading.Event()
    writer = threading.Thread(target=rest, args=(process.stdin.write,
                                                 body[20:], stop))
    writer.start()
    try:
        answer = fastcgi.Answer(process.stdout.read())
        return answer, time.monotonic() - start
    finally:
        stop.set()
        writer.join()
        process.stdin.close()
        process.stdout.close()
        assert process.wait(10) == 0


def silence(write, rest, stop):
    pass


def trickle(write, rest, stop):
    for byte in rest:
        if stop.wait(0.1):
            return
        try:
            write(bytes([byte]))
        except OSError:
            return


def test_body_not_complete_in_time(paths, store):
    """A client that is silent or sends single bytes gets 408, 4 s after
    accept."""
    body = event()
    assert len(body) > 80   # more than 4 s of trickling
    with FastCGI(paths.responder, store.conninfo) as resident, \
            CGI(paths.responder, store.conninfo) as once, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [pool.submit(slow, it, body, rest)
                   for slow, it in ((slow_fastcgi, resident), (slow_cgi, once))
                   for rest in (silence, trickle)]
        for answer, seconds in [future.result() for future in futures]:
            check(answer, 408)
            assert 3.8 < seconds < 4.5
    assert not recorded(store, task_of(body))


@pytest.mark.parametrize("arguments", [
    ["--check-config"], ["--help"], ["--listen", "/nowhere/socket"], ["--nonsense"],
    ["main", "other"]])
def test_cgi_with_arguments(arguments, paths, store):
    """A web server makes arguments of a query without a '='. Whoever sends the
    request must not choose how the program starts."""
    with CGI(paths.responder, store.conninfo) as it:
        it.spawn = functools.partial(it.spawn, *arguments)
        check(it.post(event()), 200, RECEIVED)
        assert it.get().status == 200


# No settings, no database.

NOT_CONFIGURED = b'{"error":"Receiver is not configured; see its log"}'


@pytest.mark.parametrize("settings", [
    {"SECRET_DIR": None}, {"DEADLINE": "3"}, {"NONSENSE": "1"}])
def test_not_configured(paths, store, settings):
    """With invalid settings CGI answers 503 to all requests, and FastCGI does
    not start."""
    with CGI(paths.responder, store.conninfo, **settings) as it:
        check(it.post(event()), 503, NOT_CONFIGURED)
        check(it.get("/health"), 503, NOT_CONFIGURED)
        check(it.request("PUT"), 503, NOT_CONFIGURED)
        assert it.get("/health", "HEAD").status == 503
        assert it.log() or it.read(it.stderr_file)
    with CGI(paths.responder, store.conninfo, **settings) as it, \
            socket.socket(socket.AF_UNIX) as listener:
        listener.bind(it.folder + "/socket")
        listener.listen()
        process = it.spawn(stdin=listener, stdout=subprocess.DEVNULL)
        assert process.wait(5) == 78


def check_unavailable(answer):
    check(answer, 503)
    assert answer.header("retry-after") == "30"


@pytest.mark.parametrize("state", ["refuse", "freeze"])
def test_database_stopped(transport, paths, store, state):
    with PostgresProxy(store.socket) as proxy:
        # Stopped before the start, because /health tells of an answer for 5 s.
        getattr(proxy, state)()
        with transport(paths.responder, proxy.conninfo(store.login),
                       DEADLINE="700ms") as it:
            check_stopped(it, proxy)


def check_stopped(it, proxy):
    answer = it.get("/health")
    check(answer, 503, b'{"status":"unavailable"}')
    assert answer.seconds < 1.3
    answer = it.get("/health", "HEAD")
    assert answer.status == 503 and answer.body == b""
    body, bad = event(), event(task_id=7, nonce=new_task())
    for one in (body, bad):
        answer = it.post(one)
        check_unavailable(answer)
        assert answer.seconds < 0.9
    # Requests that need no database are answered as before.
    check(it.post(body, signature="0" * 64), 401)
    check(it.request("PUT"), 405)
    proxy.open()
    assert eventually(lambda: it.post(body).status == 200)
    check(it.post(body), 200, DUPLICATE)
    assert eventually(lambda: it.get().body == b'{"status":"ok"}')


def test_health_after_a_lost_connection(paths, store):
    """The answer before the loss does not count for 5 s."""
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login), SPOOL="") as it:
        check(it.post(event()), 200, RECEIVED)
        check(it.get("/health"), 200, b'{"status":"ok"}')
        proxy.refuse()
        assert eventually(lambda: it.get("/health").status == 503, 2.5)


def test_database_stopped_while_running(transport, paths, store):
    if transport is CGI:
        pytest.skip("a process a request has no connection to lose")
    with PostgresProxy(store.socket) as proxy, transport(
            paths.responder, proxy.conninfo(store.login),
            DEADLINE="500ms") as it:
        for state in (proxy.refuse, proxy.freeze, proxy.refuse):
            check(it.post(event()), 200, RECEIVED)
            state()
            body = event()
            answer = it.post(body)
            check_unavailable(answer)
            assert answer.seconds < 0.7
            proxy.open()
            assert eventually(lambda: it.post(body).status == 200)
            assert len(recorded(store, task_of(body))) == 1


# CGI only.

@pytest.mark.parametrize("method, size, status", [
    ("POST", 200_000, 413), ("PUT", 200_000, 405), ("POST", 60_000, 415)])
def test_cgi_on_one_socket_as_mod_cgid(paths, store, method, size, status):
    """All input is read, because unread input would reset the connection before
    the answer arrives."""
    body = padded(size)
    ours, theirs = socket.socketpair()
    with CGI(paths.responder, store.conninfo) as it, ours:
        process = it.start(variables(method, body, {
            "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": str(size)}),
            stdin=theirs, stdout=theirs)
        theirs.close()
        ours.sendall(body)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(5) == 0
        raw = b""
        while chunk := ours.recv(65536):    # ECONNRESET if any input were unread
            raw += chunk
        check(fastcgi.Answer(raw), status)


@pytest.mark.parametrize("schema", ("ours", "older"))
def test_cgi_records_what_is_not_the_usual(paths, store, schema):
    """CGI records unusual events in one or two round trips, also with an older
    SQL that lacks record_next()."""
    task = new_task()
    steps = [event(task_id=task, status=status, previous_status=previous,
                   timestamp=f"2026-03-01T12:00:{second:02}Z")
             for status, previous, second in (("A", "PENDING", 1), ("B", "A", 2), ("B", "A", 3),
                                              ("D", "C", 5), ("C", "B", 4))]
    name = "humcli.record_next(text, text, text, text, timestamptz, timestamptz, text, text, json)"
    with CGI(paths.responder, store.conninfo) as it:
        if schema == "older":
            store.query(f"ALTER FUNCTION {name} RENAME TO hidden")
        try:
            answers = [it.post(body).body for body in steps]
        finally:
            if schema == "older":
                store.query(f"ALTER FUNCTION {name.replace('record_next', 'hidden')} RENAME TO record_next")
    assert answers == [RECEIVED, RECEIVED, DUPLICATE, RECEIVED, RECEIVED]
    assert [row[0] for row in store.query("SELECT status FROM humcli.events WHERE task_id = %s"
                                          " ORDER BY occurred_at", task)] == list("ABCD")


def test_cgi_with_a_file_as_stdin(paths, store):
    """lighttpd passes a body that it buffered in a file as standard input."""
    body = event()
    with CGI(paths.responder, store.conninfo) as it:
        with open(it.write("body", body), "rb") as file:
            process = it.start(variables(body=body, changes={
                "HTTP_X_SIGNATURE": sign(body)}), stdin=file,
                stdout=subprocess.PIPE)
        with process.stdout:
            check(fastcgi.Answer(process.stdout.read()), 200, RECEIVED)
        assert process.wait(5) == 0


def test_cgi_whose_client_left(paths, store):
    """A client that leaves after half a body gets 400 if it still reads. The
    event is not recorded."""
    body = event()
    with CGI(paths.responder, store.conninfo) as it:
        ours, theirs = socket.socketpair()
        process = it.start(variables(body=body, changes={
            "HTTP_X_SIGNATURE": sign(body)}), stdin=theirs, stdout=theirs)
        theirs.close()
        ours.sendall(body[:20])
        ours.close()
        process.wait(10)
        assert not recorded(store, task_of(body))


# FastCGI only.

def test_answer_closes_also_a_kept_connection(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it, \
            it.connect() as connection:
        body = event()
        connection.send(fastcgi.whole(variables(body=body, changes={
            "HTTP_X_SIGNATURE": sign(body)}).items(), body, keep=True))
        check(connection.answer(), 200, RECEIVED)
        assert connection.closed(2)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_body_in_small_records(paths, store, size):
    with FastCGI(paths.responder, store.conninfo) as it, \
            it.connect() as connection:
        body = padded(5000)
        params = variables(body=body, changes={"HTTP_X_SIGNATURE":
                                               sign(body)})
        connection.send(
            fastcgi.begin()
            + fastcgi.stream(fastcgi.PARAMS, fastcgi.pairs(params.items()),
                             size=size)
            + fastcgi.record(fastcgi.PARAMS)
            + fastcgi.stream(fastcgi.STDIN, body, size=size)
            + fastcgi.record(fastcgi.STDIN))
        check(connection.answer(), 200, RECEIVED)
        assert recorded(store, task_of(body))
