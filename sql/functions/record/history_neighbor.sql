-- Returns the nearest delivery on one side of a point in a task's history of
-- one event type, and the event of that delivery's visit. It looks for the
-- event on this side only. If there is none, it returns the visit's earliest
-- repeat instead.
CREATE OR REPLACE FUNCTION humcli.history_neighbor(
	p_task_id text,
	p_event text,
	p_occurred_at timestamptz,
	p_status text,
	p_later boolean,	-- which side
	p_window interval,
	OUT occurred_at timestamptz,
	OUT status text,
	OUT previous_status text,
	OUT event_id bigint,
	OUT repeat_id bigint
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	walk refcursor;
	d humcli.deliveries;
	visit_end timestamptz;
BEGIN
	-- Equal times are ordered by the bytes of the status. No third level is
	-- needed, because task, event type, time and status together are unique.
	IF p_later THEN
		OPEN walk NO SCROLL FOR
			SELECT v.* FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
			ORDER BY v.occurred_at, v.status;
	ELSE
		OPEN walk NO SCROLL FOR
			SELECT v.* FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
			ORDER BY v.occurred_at DESC, v.status DESC;
	END IF;

	FETCH walk INTO d;
	occurred_at := d.occurred_at;
	status := d.status;
	previous_status := d.previous_status;
	visit_end := d.occurred_at;
	WHILE d.task_id IS NOT NULL
		AND d.status = status AND d.previous_status IS NOT DISTINCT FROM previous_status
		AND greatest(d.occurred_at, visit_end) - least(d.occurred_at, visit_end) <= p_window
	LOOP
		IF d.event_id IS NOT NULL THEN
			event_id := d.event_id;
			repeat_id := NULL;
			EXIT;
		END IF;
		IF repeat_id IS NULL OR NOT p_later THEN
			repeat_id := d.repeat_id;
		END IF;
		visit_end := d.occurred_at;
		FETCH walk INTO d;
	END LOOP;
	CLOSE walk;
END $$;
