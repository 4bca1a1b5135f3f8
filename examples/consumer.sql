-- Processes every event, also those that arrived while it did not run, with psql
-- alone:
--
--	PGDATABASE=humcli psql -X -q -f examples/consumer.sql
--
-- Each run reads at most 100 events in one transaction with your own writes, so
-- that these writes happen once or not at all. The first run only subscribes, and
-- later runs get the events from then on. So run this file once before you call it
-- from cron or humcli-webhook listen.

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
