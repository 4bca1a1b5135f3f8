-- Records and notifies the usual event in one plain statement, for a backend
-- that lives for one event, as under plain CGI. There, loading PL/pgSQL and
-- planning the whole rule costs several times the work. An event is usual if it
-- is later than every other event of its task and follows the task's last
-- status, and the task has no repeat and is not retired. Such an event begins a
-- visit, splits none and opens no gap, whatever the window.
--
-- Returns the event's id; NULL if nothing was done. Then call
-- humcli.record_batch(), which has the whole rule, in another transaction.
CREATE OR REPLACE FUNCTION humcli.record_next(
	p_event text,
	p_task_id text,
	p_status text,
	p_previous_status text,
	p_occurred_at timestamptz,
	p_received_at timestamptz,
	p_secret_name text,
	p_signature text,
	p_payload json
)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	-- The lock of lock_tasks(), if it is free. A statement of its own, so that
	-- the next statement sees every event recorded up to here.
	SELECT set_config('humcli.locked', pg_try_advisory_xact_lock(1752526179, hashtext(p_task_id))::text, true);

	-- Look at the history once, at 17 events of it at most. Decline if the order of
	-- equal times matters, and if the text may be longer than 1,000 bytes.
	INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
		received_at, first_of_status, secret_name, signature, payload)
	SELECT p_event, p_task_id, p_status, nullif(p_previous_status, ''), p_occurred_at,
		p_received_at, h.same IS NULL, p_secret_name, p_signature, p_payload
	FROM (
		SELECT count(*) AS events,
			max(f.occurred_at) FILTER (WHERE f.status = nullif(p_previous_status, '')) AS before,
			max(f.occurred_at) FILTER (WHERE f.status IS DISTINCT FROM nullif(p_previous_status, '')) AS others,
			max(f.occurred_at) FILTER (WHERE f.status = p_status) AS same,
			max(f.occurred_at) FILTER (WHERE f.event <> p_event) AS other_type
		FROM (SELECT v.event, v.status, v.occurred_at FROM humcli.events v
			WHERE v.task_id = p_task_id LIMIT 17) f
	) h
	WHERE h.events < 17 AND current_setting('humcli.locked') = 'true'
		AND current_setting('transaction_isolation') = 'read committed'
		AND current_setting('synchronous_commit') <> 'off'
		AND octet_length(p_task_id) + octet_length(p_status)
			+ coalesce(octet_length(p_previous_status), 0) + octet_length(p_secret_name) <= 150
		AND coalesce((SELECT max(m.id) FROM humcli.events m), 0)
			<= coalesce(pg_sequence_last_value(pg_get_serial_sequence('humcli.events', 'id')), 0)
		AND h.other_type IS NULL
		AND CASE WHEN h.before IS NULL
			THEN h.others IS NULL AND coalesce(nullif(p_previous_status, ''), 'PENDING') = 'PENDING'
			ELSE (h.before > h.others) IS NOT FALSE
				AND p_occurred_at > h.before AND p_status <> p_previous_status END
		AND (SELECT r.id FROM humcli.repeats r WHERE r.task_id = p_task_id LIMIT 1) IS NULL
		AND (SELECT t.event_id FROM humcli.retired t WHERE t.task_id = p_task_id) IS NULL
	ON CONFLICT (task_id, event, occurred_at, status) DO NOTHING
	-- Notify as notify() does. Neither call returns NULL.
	RETURNING CASE WHEN set_config('lock_timeout', '250ms', true) IS NOT NULL
		AND pg_notify('humcli_events', humcli.notification_payload(e.id, p_task_id, p_status,
			nullif(p_previous_status, ''), e.first_of_status, p_secret_name)) IS NOT NULL
		THEN e.id END
$$;
