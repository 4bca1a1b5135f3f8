-- Every event, also those that came while this did not run, by psql alone:
--
--	PGDATABASE=humcli psql -X -q -f examples/consumer.sql
--
-- Hands out what is there, at most 100 events, in one transaction with your own
-- writes: they happen once, or not at all. Run it from cron; or, to be woken,
-- put it behind humcli-webhook listen.

\set ON_ERROR_STOP on
\set name psql

SELECT humcli.subscribe(:'name') \g /dev/null

BEGIN;
CREATE TEMPORARY TABLE batch ON COMMIT DROP AS
	SELECT row_number() OVER () AS place, f.* FROM humcli.fetch(:'name', 100) f;

-- Your work, such as INSERT INTO ... SELECT ... FROM batch ORDER BY place.
SELECT task_id, status, humcli.payload(payload) AS payload FROM batch ORDER BY place;

SELECT humcli.ack(:'name', position) FROM batch ORDER BY place DESC LIMIT 1 \g /dev/null
COMMIT;
