-- Grants each role what it needs and no more; PUBLIC has nothing.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA humcli FROM PUBLIC;

DO $$
BEGIN
	IF (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'humcli')
		IS DISTINCT FROM to_regrole('humcli_owner')::oid
	THEN
		RETURN;		-- installed without the roles
	END IF;

	GRANT USAGE ON SCHEMA humcli TO humcli_writer, humcli_reader;

	GRANT EXECUTE ON FUNCTION
		humcli.record_batch(text[], text[], text[], text[], timestamptz[], timestamptz[], text[], text[], json[], interval, boolean),
		humcli.record_next(text, text, text, text, timestamptz, timestamptz, text, text, json),
		humcli.notify(text[], text[]),
		humcli.quarantine_add(timestamptz[], text[], text[], text[], bytea[])
		TO humcli_writer;
	GRANT EXECUTE ON FUNCTION
		humcli.record_status_read(text, text, bigint, timestamptz, timestamptz, text, json),
		humcli.add_reading(text, timestamptz, int, text, text),
		humcli.add_reconcile_run(timestamptz, int, int, int, int, text)
		TO humcli_reconciler;
	GRANT EXECUTE ON FUNCTION humcli.identities_behind() TO humcli_writer, humcli_reader;

	GRANT SELECT ON ALL TABLES IN SCHEMA humcli TO humcli_reader;
	-- The functions that a view calls run as the role that reads the view.
	GRANT EXECUTE ON FUNCTION
		humcli.payload(json),
		humcli.event_types(text),
		humcli.order_equal_times(text, timestamptz),
		humcli.is_status_read(text, text, timestamptz, timestamptz),
		humcli.unread_events(txid_snapshot, txid_snapshot, bigint, bigint, text[], text[], bigint),
		humcli.subscription_covers(humcli.subscriptions, text, text),
		humcli.cursor_horizon(humcli.subscriptions),
		humcli.has_foreign_xids(text),
		humcli.xid_to_bigint(xid)
		TO humcli_reader;

	GRANT EXECUTE ON FUNCTION
		humcli.subscribe(text, text, text[], text[]),
		humcli.fetch(text, int),
		humcli.ack(text, text),
		humcli.replay(text, bigint[], text, text[], timestamptz, timestamptz),
		humcli.seek(text, text),
		humcli.unsubscribe(text)
		TO humcli_consumer;

	GRANT EXECUTE ON FUNCTION humcli.purge(interval, int), humcli.purge_tests(int), humcli.rebase() TO humcli_admin;
	GRANT DELETE ON humcli.quarantine, humcli.late TO humcli_admin;
END $$;
