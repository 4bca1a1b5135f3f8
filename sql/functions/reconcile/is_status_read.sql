-- Returns whether reconcile read this status of a task from HumCLI's API between two
-- times; p_from is NULL if there is no earlier limit.
CREATE OR REPLACE FUNCTION humcli.is_status_read(
	p_task_id text,
	p_status text,
	p_from timestamptz,
	p_until timestamptz
)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
	SELECT EXISTS (
		SELECT FROM humcli.events e
		WHERE e.task_id = p_task_id AND e.event = 'api.status_read' AND e.status = p_status
			AND e.occurred_at BETWEEN coalesce(p_from, '-infinity') AND p_until)
$$;
