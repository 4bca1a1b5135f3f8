-- Creates a durable subscription: fetch() returns every event from then on,
-- also the events recorded while no consumer runs. It starts 'now' or at the
-- 'beginning' of the recorded events, and covers all statuses or some,
-- and all secret names or some.
--
-- Returns true if the subscription is new; false if it exists, unchanged.
CREATE OR REPLACE FUNCTION humcli.subscribe(
	name text,
	start text DEFAULT 'now',
	statuses text[] DEFAULT NULL,
	secrets text[] DEFAULT NULL
)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF subscribe.name IS NULL OR subscribe.name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
		RAISE EXCEPTION 'humcli: invalid subscription name: must be 1 to 63 letters, digits or _ . -'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF start IS NULL OR start NOT IN ('now', 'beginning') THEN
		RAISE EXCEPTION 'humcli: invalid start: must be "now" or "beginning"'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF cardinality(statuses) = 0 OR array_position(statuses, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'humcli: invalid statuses: must be a list of names, or NULL for all'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF cardinality(secrets) = 0 OR array_position(secrets, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'humcli: invalid secrets: must be a list of names, or NULL for all'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF humcli.has_foreign_xids(NULL) THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'A member of humcli_admin must run: SELECT humcli.rebase();';
	END IF;

	-- '1:1:' is a snapshot from before the first transaction.
	PERFORM humcli.repair_identity('subscriptions', 'generation');
	INSERT INTO humcli.subscriptions AS n (name, owner, statuses, secrets, done)
	VALUES (subscribe.name, humcli.calling_role(), subscribe.statuses, subscribe.secrets, '1:1:')
	ON CONFLICT ON CONSTRAINT subscriptions_pkey DO NOTHING
	RETURNING n.* INTO s;
	IF NOT FOUND THEN
		PERFORM humcli.require_subscription(subscribe.name);	-- raises if it is another role's
		RETURN false;
	END IF;
	IF start = 'now' THEN
		s.done := humcli.complete_snapshot();
		PERFORM humcli.save_cursor(s);
	END IF;
	RETURN true;
END $$;
