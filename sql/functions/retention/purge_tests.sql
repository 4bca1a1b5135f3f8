-- Deletes the whole histories of at most max_tasks test tasks and returns how
-- many; call it until it returns 0. "humcli-webhook send" and "probe" name
-- their tasks task_test_...; their age and the subscriptions do not count, and
-- no row of them stays.
CREATE OR REPLACE FUNCTION humcli.purge_tests(max_tasks int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tasks text[];
	busy text[];
BEGIN
	-- Each task takes an advisory lock; the server has a few thousand.
	IF max_tasks IS NULL OR max_tasks NOT BETWEEN 1 AND 2000 THEN
		RAISE EXCEPTION 'humcli: max_tasks is % but must be from 1 to 2000', coalesce(max_tasks::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: purging needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;

	-- The range is that of the prefix; task_id has the collation "C".
	tasks := ARRAY(
		SELECT d.task_id FROM (
			SELECT e.task_id FROM humcli.events e
			UNION SELECT r.task_id FROM humcli.repeats r
			UNION SELECT t.task_id FROM humcli.retired t
			UNION SELECT l.task_id FROM humcli.late l) d
		WHERE d.task_id >= 'task_test_' AND d.task_id < 'task_test`'
		LIMIT max_tasks);
	busy := humcli.lock_tasks(tasks);
	tasks := ARRAY(SELECT t.id FROM unnest(tasks) t (id) WHERE t.id <> ALL (busy));

	DELETE FROM humcli.replays r USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND r.event_id = e.id;
	DELETE FROM humcli.jobs j USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND j.event_id = e.id;
	DELETE FROM humcli.dead d USING humcli.events e
		WHERE e.task_id = ANY (tasks) AND d.event_id = e.id;
	DELETE FROM humcli.repeats r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.events e WHERE e.task_id = ANY (tasks);
	DELETE FROM humcli.retired t WHERE t.task_id = ANY (tasks);
	DELETE FROM humcli.readings r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.late l WHERE l.task_id = ANY (tasks);
	DELETE FROM humcli.quarantine q WHERE position('task_test_'::bytea IN q.body) > 0;
	RETURN cardinality(tasks);
END $$;
