-- Records a batch as record_batch() does, for a receiver of an older version that
-- still runs. That receiver hands the ids to notify().
CREATE OR REPLACE FUNCTION humcli.record(
	p_event text[],
	p_task_id text[],
	p_status text[],
	p_previous_status text[],
	p_occurred_at timestamptz[],
	p_received_at timestamptz[],
	p_secret_name text[],
	p_signature text[],
	p_payload json[],
	p_window interval,
	p_notify boolean DEFAULT false
)
RETURNS TABLE (
	place int,
	outcome text,
	id bigint,
	task_id text,
	status text,
	previous_status text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT b.place, b.outcome, b.id, b.task_id, b.status, b.previous_status
	FROM humcli.record_batch(p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
		p_received_at, p_secret_name, p_signature, p_payload, p_window, p_notify) b
	WHERE b.outcome <> 'gap';
END $$;
