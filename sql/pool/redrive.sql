-- Makes dead events jobs again, with all their attempts: the event with this
-- id, or at most max_rows, the longest dead first. Returns how many.
CREATE OR REPLACE FUNCTION humcli.redrive(name text, id bigint DEFAULT NULL, max_rows int DEFAULT 100)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rows int;
BEGIN
	PERFORM humcli.require_subscription(redrive.name);
	WITH chosen AS (
		SELECT d.event_id
		FROM humcli.dead d
		WHERE d.subscription = redrive.name AND (redrive.id IS NULL OR d.event_id = redrive.id)
		ORDER BY d.died_at, d.event_id
		LIMIT max_rows
		FOR UPDATE SKIP LOCKED
	), gone AS (
		DELETE FROM humcli.dead d
		USING chosen c
		WHERE d.subscription = redrive.name AND d.event_id = c.event_id
		RETURNING d.event_id, d.error
	), back AS (
		INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at, error)
		SELECT redrive.name, e.id, e.task_id, e.occurred_at, g.error
		FROM gone g
		JOIN humcli.events e ON e.id = g.event_id
		ON CONFLICT (subscription, event_id) DO NOTHING
	)
	SELECT count(*) INTO rows FROM gone;
	IF rows > 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
	END IF;
	RETURN rows;
END $$;
