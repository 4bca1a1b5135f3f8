-- Stores the cursor of a subscription as it is in s.
--
-- The row is written under a transaction id that is above every id the cursor
-- covers. After a crash or failover, transaction ids that were assigned but not
-- logged are assigned again. A cursor beyond such an id would skip the new
-- events under it. has_foreign_xids() relies on the same rule. A transaction
-- with a smaller id gets a new id from a subtransaction.
CREATE OR REPLACE FUNCTION humcli.save_cursor(s humcli.subscriptions)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF txid_current() >= humcli.cursor_horizon(s) THEN
		PERFORM humcli.update_cursor(s);
		RETURN;
	END IF;
	BEGIN
		PERFORM humcli.update_cursor(s);
	EXCEPTION WHEN assert_failure THEN	-- never raised; makes the block a subtransaction
		RAISE;
	END;
END $$;
