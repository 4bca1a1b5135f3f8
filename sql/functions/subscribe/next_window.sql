-- A subscription whose window has been read to its end, as it goes on: with
-- the next window, if that holds an event for it. Without one, but past 1,000
-- rows that it has no use for, so that nobody reads them each time. Else NULL.
CREATE OR REPLACE FUNCTION humcli.next_window(s humcli.subscriptions)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	enough constant int := 1000;
	base constant txid_snapshot := coalesce(s.win, s.done);
	reached constant txid_snapshot := humcli.reached();
	passed bigint;
BEGIN
	IF EXISTS (SELECT FROM humcli.ahead(base, reached, 0, 0, s.statuses, 1)) THEN
		s.done := base;
		s.win := reached;
	ELSE
		passed := CASE WHEN s.statuses IS NULL THEN 0 ELSE (
			SELECT count(*) FROM humcli.ahead(base, reached, 0, 0, NULL, enough + 1)) END;
		IF s.statuses IS NOT NULL AND s.win IS NOT NULL THEN
			passed := passed + (
				SELECT count(*) FROM humcli.ahead(s.done, s.win, s.win_xid, s.win_id, NULL, enough + 1));
		END IF;
		IF passed <= enough THEN
			RETURN NULL;
		END IF;
		s.done := reached;
		s.win := NULL;
	END IF;
	s.win_xid := 0;
	s.win_id := 0;
	RETURN s;
END $$;
