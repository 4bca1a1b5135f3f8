-- Processes every event, also those that arrived while it did not run, by psql
-- alone:
--
--	PGDATABASE=humcli psql -X -q -f examples/consumer.sql
--
-- Each run reads at most 100 events in one transaction with your own writes, so
-- that these happen once or not at all. The first run subscribes: events from
-- then on are delivered. So run it once before you put it into cron or behind
-- humcli-webhook listen.

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
