-- Adds events for fetch() to return again, to one subscription. Returns how
-- many.
--
-- An event is added if the cursor has passed it and it meets every condition
-- given: ids, a task, statuses, recorded at or after "since", recorded before
-- "until". Events that the cursor has not passed are delivered anyway; statuses
-- and secrets that the subscription excludes stay excluded. fetch() returns added events
-- first, in the order of their ids.
CREATE OR REPLACE FUNCTION humcli.replay(
	name text,
	ids bigint[] DEFAULT NULL,
	task_id text DEFAULT NULL,
	statuses text[] DEFAULT NULL,
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL
)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
	events bigint;
BEGIN
	IF num_nonnulls(ids, replay.task_id, replay.statuses, since, until) = 0 THEN
		RAISE EXCEPTION 'humcli: can''t replay: no condition is given'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'To replay every event, use humcli.seek(name, ''beginning'').';
	END IF;
	-- The lock orders the places: a later replay has later places, and ack()
	-- can't cover a place that fetch() has not returned.
	s := humcli.require_subscription(replay.name, 'change');

	PERFORM humcli.repair_identity('replays', 'place');
	-- EXECUTE makes a plan for these values: conditions that are NULL vanish,
	-- and the others use their indexes.
	EXECUTE '
		INSERT INTO humcli.replays (subscription, event_id)
		SELECT ($1).name, e.id
		FROM humcli.events e
		WHERE ($2 IS NULL OR e.id = ANY ($2))
			AND ($3 IS NULL OR e.task_id = $3)
			AND ($4 IS NULL OR e.status = ANY ($4))
			AND ($5 IS NULL OR e.recorded_at >= $5)
			AND ($6 IS NULL OR e.recorded_at < $6)
			AND humcli.subscription_covers($1, e.status, coalesce(e.secret_name, e.key_name))
			AND humcli.cursor_has_passed($1, e.xid, e.id)
		ORDER BY e.id
		ON CONFLICT (event_id, subscription) DO NOTHING'
	USING s, ids, replay.task_id, replay.statuses, since, until;
	GET DIAGNOSTICS events = ROW_COUNT;

	IF events > 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
	END IF;
	RETURN events;
END $$;
