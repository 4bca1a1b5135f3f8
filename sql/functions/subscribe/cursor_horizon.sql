-- Returns the first transaction id that a cursor does not cover.
CREATE OR REPLACE FUNCTION humcli.cursor_horizon(s humcli.subscriptions)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
	SELECT greatest(pg_catalog.txid_snapshot_xmax(s.done), pg_catalog.txid_snapshot_xmax(s.win))
$$;
