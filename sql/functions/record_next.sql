-- The usual case of humcli.record(), for a backend that lives for one event,
-- as under plain CGI: there loading PL/pgSQL, and planning all that the rule
-- needs, costs several times the work. One event that comes after all else of
-- its task and follows on its last status, with no repeat and nothing retired
-- of that task, is recorded and notified in one plain statement: whatever the
-- window, it begins a visit, splits none and opens no gap.
--
-- Returns its id. NULL: nothing was done; call humcli.record(), in another
-- transaction, which has the whole rule.
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
-- see functions/record.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	-- The lock of functions/lock_tasks.sql, if it is free; a statement of its
	-- own, so that the next one sees what others have recorded up to here.
	-- And as in functions/notify.sql: another's stuck commit must not hold up
	-- ours.
	SELECT set_config('humcli.locked', pg_try_advisory_xact_lock(1752526179, hashtext(p_task_id))::text, true),
		set_config('lock_timeout', '250ms', true);

	WITH inserted AS (
		INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
			received_at, first_of_status, secret_name, signature, payload)
		SELECT p_event, p_task_id, p_status, p_previous_status, p_occurred_at,
			p_received_at, h.seen IS NOT TRUE, p_secret_name, p_signature, p_payload
		FROM (
			SELECT bool_and(f.event = p_event) AS one_type,
				bool_or(f.status = p_status) AS seen,
				array_agg(f.occurred_at ORDER BY f.occurred_at DESC) AS times,
				array_agg(f.status ORDER BY f.occurred_at DESC) AS statuses
			FROM humcli.events f
			WHERE f.task_id = p_task_id
		) h
		WHERE current_setting('humcli.locked') = 'true'
			AND current_setting('transaction_isolation') = 'read committed'
			AND current_setting('synchronous_commit') <> 'off'
			AND h.one_type IS NOT FALSE
			AND (p_occurred_at > h.times[1]) IS NOT FALSE
			AND (p_status <> h.statuses[1]) IS NOT FALSE
			-- Which of two at the same time is the last?
			AND (h.times[1] > h.times[2]) IS NOT FALSE
			AND (p_previous_status = coalesce(h.statuses[1], 'PENDING')) IS NOT FALSE
			AND (SELECT r.id FROM humcli.repeats r WHERE r.task_id = p_task_id LIMIT 1) IS NULL
			AND (SELECT t.event_id FROM humcli.retired t WHERE t.task_id = p_task_id) IS NULL
		ON CONFLICT DO NOTHING
		RETURNING e.id, e.first_of_status
	)
	SELECT i.id
	FROM inserted i
	CROSS JOIN LATERAL (
		SELECT humcli.notification(i.id, p_task_id, p_status, p_previous_status, i.first_of_status) AS whole
	) m
	CROSS JOIN LATERAL pg_notify('humcli_events', CASE WHEN octet_length(m.whole) > 1000
		THEN format('{"id":"%s"}', i.id) ELSE m.whole END)
$$;
