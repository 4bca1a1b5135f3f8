-- Records a status that HumCLI's API tells and no webhook did, as an event of its
-- own type, api.status_read. Nobody signed it: secret_name and signature are NULL.
-- p_last_id is the last event of the task's timeline as the caller compared it, or
-- the event_id of its retired row; NULL if there is neither.
--
-- Returns the outcome, the event's id, and the status recorded before:
--
--	recorded	a new event
--	current		the timeline ends in this status already
--	changed		the timeline has another end than p_last_id: compare again
--	busy		another transaction holds the task's lock: try again
--
-- Takes the lock that record_batch() takes. So a webhook is recorded either before
-- this function looks, or after its commit.
--
-- p_occurred_at is the API's own time of the status, NULL if there is none. A time
-- that is not later than the last event belongs to an earlier visit. A time later than
-- the reading is wrong. In both cases the event gets the time of reading; if our clock
-- is behind, the time just after the last event.
CREATE OR REPLACE FUNCTION humcli.record_status_read(
	p_task_id text,
	p_status text,
	p_last_id bigint,
	p_occurred_at timestamptz,
	p_read_at timestamptz,
	p_key_name text,
	p_payload json,
	OUT outcome text,
	OUT id bigint,
	OUT previous_status text
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	busy text[];
	retired humcli.retired;
	last_id bigint;
	last_time timestamptz;
	is_first boolean;
	notification text;
BEGIN
	-- See record_batch().
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'humcli: recording needs READ COMMITTED, not %', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction',
			HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
	END IF;
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;

	-- A statement of its own, so that those below see every event before the lock.
	busy := humcli.lock_tasks(ARRAY[p_task_id]);
	IF busy <> '{}' THEN
		outcome := 'busy';
		RETURN;
	END IF;

	SELECT t.* INTO retired FROM humcli.retired t WHERE t.task_id = p_task_id;
	SELECT t.id, t.status, t.occurred_at INTO last_id, previous_status, last_time
	FROM humcli.tasks t WHERE t.task_id = p_task_id;
	IF NOT FOUND THEN
		last_id := retired.event_id;
		previous_status := retired.status;
		last_time := retired.occurred_at;
	END IF;
	IF previous_status = p_status THEN
		outcome := 'current';
		id := last_id;
		RETURN;
	END IF;
	IF last_id IS DISTINCT FROM p_last_id THEN
		outcome := 'changed';
		id := last_id;
		RETURN;
	END IF;

	-- Later webhooks would be placed before an event of the future.
	IF p_occurred_at > p_read_at + interval '1 minute' THEN
		p_occurred_at := NULL;
	END IF;
	p_occurred_at := CASE
		WHEN last_time IS NULL THEN coalesce(p_occurred_at, p_read_at)
		WHEN p_occurred_at > last_time THEN p_occurred_at
		ELSE greatest(p_read_at, last_time + interval '1 microsecond') END;

	PERFORM humcli.repair_identity('events');
	INSERT INTO humcli.events AS e (event, task_id, status, previous_status, occurred_at,
		received_at, first_of_status, secret_name, signature, payload, key_name)
	VALUES ('api.status_read', p_task_id, p_status, previous_status, p_occurred_at, p_read_at,
		NOT EXISTS (SELECT FROM humcli.events f WHERE f.task_id = p_task_id AND f.status = p_status)
			AND p_status <> ALL (coalesce(retired.statuses, '{}')),
		NULL, NULL, p_payload, p_key_name)
	RETURNING e.id, e.first_of_status INTO id, is_first;
	-- See record_batch().
	IF NOT FOUND THEN
		RAISE EXCEPTION 'humcli: a table took no row, and reported no error'
			USING ERRCODE = 'triggered_data_change_violation',
				HINT = 'A trigger or a rule on the tables of the schema humcli returns nothing. Drop it.';
	END IF;
	outcome := 'recorded';

	notification := humcli.notification_payload(id, p_task_id, p_status, previous_status, is_first, NULL);
	IF octet_length(notification) > 1000 THEN
		notification := format('{"id":"%s"}', id);
	END IF;
	PERFORM humcli.notify(ARRAY[notification],
		ARRAY[format('{"task_id":%s,"kind":"read"}', to_json(p_task_id))]);
END $$;
