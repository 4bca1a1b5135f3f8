-- Returns the nearest delivery on one side of a point in a task's history of one
-- event type. event_id is the event of that delivery's visit, on any side;
-- repeat_id is the delivery's own if it is a repeat.
--
-- Each visit has an event. Between two neighboring events there are only repeats of
-- their visits: first those of the earlier one, then those of the later one. So the
-- event of a repeat is one of the two. If only one of them has the repeat's status
-- and previous_status, it is that one. If both have, the repeat's own event_id
-- decides. It may name an event that is no longer a neighbor, because the visit was
-- split. Only then eventless_half() looks at the steps in between.
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
	x humcli.deliveries;		-- the nearest delivery
	earlier humcli.deliveries;	-- the nearest event on each side
	later humcli.deliveries;
	is_earlier boolean;	-- its visit can be that of the event
	is_later boolean;
BEGIN
	-- Equal times are ordered by the bytes of the status. No third level is
	-- needed, because task, event type, time and status together are unique.
	IF p_later THEN
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
		ORDER BY v.occurred_at, v.status
		LIMIT 1;
	ELSE
		SELECT v.* INTO x FROM humcli.deliveries v
		WHERE v.task_id = p_task_id AND v.event = p_event
			AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
		ORDER BY v.occurred_at DESC, v.status DESC
		LIMIT 1;
	END IF;
	occurred_at := x.occurred_at;
	status := x.status;
	previous_status := x.previous_status;
	event_id := x.event_id;
	repeat_id := x.repeat_id;
	IF x.repeat_id IS NULL THEN
		RETURN;
	END IF;

	SELECT v.* INTO earlier FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) < (p_occurred_at, p_status)
	ORDER BY v.occurred_at DESC, v.status DESC
	LIMIT 1;
	SELECT v.* INTO later FROM humcli.deliveries v
	WHERE v.task_id = p_task_id AND v.event = p_event AND v.event_id IS NOT NULL
		AND (v.occurred_at, v.status) > (p_occurred_at, p_status)
	ORDER BY v.occurred_at, v.status
	LIMIT 1;
	is_earlier := earlier.status = x.status AND earlier.previous_status IS NOT DISTINCT FROM x.previous_status;
	is_later := later.status = x.status AND later.previous_status IS NOT DISTINCT FROM x.previous_status;
	IF is_earlier AND is_later THEN
		SELECT r.event_id INTO event_id FROM humcli.repeats r
		WHERE r.id = x.repeat_id AND r.event_id IN (earlier.event_id, later.event_id);
		IF NOT FOUND THEN
			is_earlier := (humcli.eventless_half(p_task_id, p_event, p_occurred_at, p_status,
				p_later, p_window) IS NULL) <> p_later;
			event_id := CASE WHEN is_earlier THEN earlier.event_id ELSE later.event_id END;
		END IF;
	ELSE
		event_id := CASE WHEN is_earlier THEN earlier.event_id WHEN is_later THEN later.event_id END;
	END IF;
END $$;
