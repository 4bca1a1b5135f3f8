-- Returns the latest occurred_at of a task's events before a time; NULL if there is
-- none. p_types is event_types(p_task_id).
CREATE OR REPLACE FUNCTION humcli.time_before(p_task_id text, p_types text[], p_time timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
	SELECT max(n.occurred_at)
	FROM unnest(p_types) t (event)
	CROSS JOIN LATERAL (
		SELECT e.occurred_at FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event = t.event AND e.occurred_at < p_time
		ORDER BY e.occurred_at DESC LIMIT 1
	) n
$$;
