-- Returns the event types of a task, with one look-up each, however many events
-- the task has. With them, a time can be looked up in the index of the history.
CREATE OR REPLACE FUNCTION humcli.event_types(p_task_id text)
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	type text COLLATE "C";
	types text[] := '{}';
BEGIN
	SELECT e.event INTO type FROM humcli.events e WHERE e.task_id = p_task_id ORDER BY e.event LIMIT 1;
	WHILE FOUND LOOP
		types := types || type;
		SELECT e.event INTO type FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event > type
		ORDER BY e.event LIMIT 1;
	END LOOP;
	RETURN types;
END $$;
