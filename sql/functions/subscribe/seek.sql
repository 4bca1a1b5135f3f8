-- Moves a subscription to 'now', to the 'beginning' of the recorded events, or
-- back to a time; events recorded from that time on are delivered again.
-- Positions fetched before the seek can no longer be acknowledged.
CREATE OR REPLACE FUNCTION humcli.seek(name text, "to" text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	IF seek."to" IS NULL THEN
		RAISE EXCEPTION 'humcli: invalid place to seek to: must be "now", "beginning" or a time'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	s := humcli.require_subscription(seek.name, 'change');

	DELETE FROM humcli.replays r WHERE r.subscription = seek.name;
	DELETE FROM humcli.jobs j WHERE j.subscription = seek.name;
	s.done := CASE seek."to" WHEN 'beginning' THEN '1:1:' ELSE humcli.complete_snapshot() END;
	s.win := NULL;
	s.win_xid := 0;
	s.win_id := 0;
	s.generation := greatest(nextval(pg_get_serial_sequence('humcli.subscriptions', 'generation')),
		s.generation + 1);
	PERFORM humcli.save_cursor(s);

	IF seek."to" = 'beginning' THEN
		PERFORM pg_notify('humcli_events', '{}');
	ELSIF seek."to" <> 'now' THEN
		PERFORM humcli.replay(seek.name, since => seek."to"::timestamptz);
	END IF;
END $$;
