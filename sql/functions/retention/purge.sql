-- Deletes the whole histories of at most max_tasks tasks and returns how many;
-- call it until it returns 0. The history of a task is all its events and
-- repeats. It is deleted once its newest event happened and was recorded longer
-- ago than older_than, and no subscription or pool needs an event of it.
--
-- A row of each task stays in humcli.retired. It is the left neighbor of later
-- deliveries, so that the rule of record_batch() and the gaps stay right.
CREATE OR REPLACE FUNCTION humcli.purge(older_than interval, max_tasks int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cutoff constant timestamptz := now() - older_than;
	subscriptions humcli.subscriptions[];
	tasks text[];
	busy text[];
BEGIN
	IF older_than IS NULL OR older_than < interval '1 day' THEN
		RAISE EXCEPTION 'humcli: older_than is % but must be at least 1 day', coalesce(older_than::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
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

	-- This lock blocks seek() and replay() until our commit. Consumers are not
	-- blocked.
	PERFORM FROM humcli.subscriptions s ORDER BY s.name FOR KEY SHARE;
	IF humcli.has_foreign_xids(NULL)
		OR EXISTS (SELECT FROM humcli.subscriptions s WHERE humcli.has_foreign_xids(s.name))
	THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run: SELECT humcli.rebase();';
	END IF;

	subscriptions := ARRAY(SELECT s FROM humcli.subscriptions s);

	-- Tasks in the order of their first recorded row. A task with repeats and
	-- no event has a visit that began before the task was retired.
	tasks := ARRAY(
		(SELECT e.task_id FROM humcli.events e
		WHERE e.recorded_at < cutoff AND e.occurred_at < cutoff
			AND NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = e.task_id AND f.id < e.id)
			AND humcli.task_is_purgeable(e.task_id, cutoff, subscriptions)
		ORDER BY e.id
		LIMIT max_tasks)
		UNION ALL
		(SELECT r.task_id FROM humcli.repeats r
		WHERE r.recorded_at < cutoff AND r.occurred_at < cutoff
			AND NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = r.task_id)
			AND NOT EXISTS (SELECT FROM humcli.repeats f WHERE f.task_id = r.task_id AND f.id < r.id)
			AND humcli.task_is_purgeable(r.task_id, cutoff, subscriptions)
		ORDER BY r.id
		LIMIT max_tasks)
		LIMIT max_tasks);

	-- Check again in a new statement, because deliveries may have been recorded
	-- while we waited for the locks.
	busy := humcli.lock_tasks(tasks);
	tasks := ARRAY(
		SELECT t.id FROM unnest(tasks) t (id)
		WHERE t.id <> ALL (busy) AND humcli.task_is_purgeable(t.id, cutoff, subscriptions));

	INSERT INTO humcli.retired AS r (task_id, event, occurred_at, status, previous_status, event_id, statuses)
	SELECT DISTINCT ON (d.task_id)
		d.task_id, d.event, d.occurred_at, d.status, d.previous_status,
		coalesce(
			(SELECT e.id FROM humcli.events e
			WHERE e.task_id = d.task_id AND e.event = d.event
			ORDER BY e.occurred_at DESC, e.status DESC LIMIT 1),
			(SELECT o.event_id FROM humcli.retired o WHERE o.task_id = d.task_id)),
		ARRAY(
			SELECT e.status FROM humcli.events e WHERE e.task_id = d.task_id
			UNION
			SELECT unnest(o.statuses) FROM humcli.retired o WHERE o.task_id = d.task_id)
	FROM humcli.deliveries d
	WHERE d.task_id = ANY (tasks)
	ORDER BY d.task_id, d.occurred_at DESC, d.status DESC, d.event DESC
	ON CONFLICT (task_id) DO UPDATE
		SET event = EXCLUDED.event, occurred_at = EXCLUDED.occurred_at, status = EXCLUDED.status,
			previous_status = EXCLUDED.previous_status, event_id = EXCLUDED.event_id,
			statuses = EXCLUDED.statuses, retired_at = EXCLUDED.retired_at;
	DELETE FROM humcli.repeats r WHERE r.task_id = ANY (tasks);
	DELETE FROM humcli.events e WHERE e.task_id = ANY (tasks);
	-- Also the old readings of tasks that nothing is recorded of.
	DELETE FROM humcli.readings r
	WHERE r.task_id = ANY (tasks) OR (r.read_at < cutoff
		AND NOT EXISTS (SELECT FROM humcli.events e WHERE e.task_id = r.task_id));
	RETURN cardinality(tasks);
END $$;
