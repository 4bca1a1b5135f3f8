-- Returns the earliest repeat of a half that an event leaves without an event when
-- it splits a visit. The point is that of the splitting event; the half is the part
-- of the nearest delivery's visit on one side of it. Returns NULL if the half has an
-- event, or if the nearest delivery is an event itself.
--
-- It does not look at each delivery, because the event of a repeat is one of the two
-- neighboring events, see history_neighbor(). If both have the repeat's status and
-- previous_status, the steps in between decide.
CREATE OR REPLACE FUNCTION humcli.eventless_half(
	p_task_id text,
	p_event text,
	p_occurred_at timestamptz,
	p_status text,
	p_later boolean,	-- which side
	p_window interval
)
RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
	x humcli.deliveries;		-- the nearest delivery
	earlier humcli.deliveries;	-- the nearest event on each side
	later humcli.deliveries;
	mine humcli.deliveries;
	other humcli.deliveries;
	start_id bigint;
BEGIN
	-- Equal times are ordered by the bytes of the status. No third level is
	-- needed, because task, event type, time and status together are unique.
	-- history_neighbor() repeats these statements. A shared function needs each of them, too.
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
	IF x.repeat_id IS NULL THEN
		RETURN NULL;
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
	mine := CASE WHEN p_later THEN later ELSE earlier END;
	other := CASE WHEN p_later THEN earlier ELSE later END;

	IF mine.status = x.status AND mine.previous_status IS NOT DISTINCT FROM x.previous_status THEN
		IF other.status IS DISTINCT FROM x.status
			OR other.previous_status IS DISTINCT FROM x.previous_status
			OR greatest(mine.occurred_at, x.occurred_at) - least(mine.occurred_at, x.occurred_at)
				<= p_window
		THEN
			RETURN NULL;
		END IF;
		-- The row behind the last step that is too long, if there is one.
		SELECT s.repeat_id INTO start_id
		FROM (
			SELECT v.occurred_at, v.status, v.repeat_id,
				v.occurred_at - lag(v.occurred_at) OVER (ORDER BY v.occurred_at, v.status) AS step
			FROM humcli.deliveries v
			WHERE v.task_id = p_task_id AND v.event = p_event
				AND v.occurred_at >= least(mine.occurred_at, x.occurred_at)
				AND v.occurred_at <= greatest(mine.occurred_at, x.occurred_at)
				AND v.status = x.status
		) s
		WHERE s.step > p_window
		ORDER BY s.occurred_at DESC, s.status DESC
		LIMIT 1;
		RETURN CASE WHEN FOUND AND p_later THEN x.repeat_id ELSE start_id END;
	END IF;

	IF p_later THEN
		RETURN x.repeat_id;
	END IF;
	SELECT r.id INTO start_id FROM humcli.repeats r
	WHERE r.task_id = p_task_id AND r.event = p_event
		AND r.status = x.status AND r.previous_status IS NOT DISTINCT FROM x.previous_status
		AND (r.occurred_at, r.status) < (p_occurred_at, p_status)
		AND (earlier.task_id IS NULL OR (r.occurred_at, r.status) > (earlier.occurred_at, earlier.status))
	ORDER BY r.occurred_at, r.status
	LIMIT 1;
	RETURN start_id;
END $$;
