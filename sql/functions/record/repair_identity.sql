-- Advances the identity sequence of a table beyond the table's largest value if
-- it is behind, and logs that. A sequence is behind after a data-only restore or
-- a switch-over of logical replication. It would then assign values a second
-- time.
--
-- Called before rows are added. Values assigned by running transactions are never
-- assigned again, because nextval() only goes forward. A large distance is crossed
-- by setval(), one process at a time; no process is assigned that many values meanwhile.
-- The message is in PostgreSQL's log, and goes to the client, which logs it as well.
CREATE OR REPLACE FUNCTION humcli.repair_identity(p_table text, p_column text DEFAULT 'id')
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = log
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	max_steps constant int := 10000;
	sequence constant regclass := pg_get_serial_sequence(format('humcli.%I', p_table), p_column)::regclass;
	largest bigint;
	behind bigint;
BEGIN
	EXECUTE format('SELECT max(t.%I) FROM humcli.%I t', p_column, p_table) INTO largest;
	IF largest <= coalesce(pg_sequence_last_value(sequence), 0) OR largest IS NULL THEN
		RETURN;
	END IF;

	PERFORM pg_advisory_xact_lock(1752526180, sequence::oid::int);
	behind := largest - coalesce(pg_sequence_last_value(sequence), 0);
	IF behind > max_steps THEN
		PERFORM setval(sequence, largest);
	ELSE
		WHILE nextval(sequence) < largest LOOP
			NULL;
		END LOOP;
	END IF;
	RAISE LOG 'humcli: the sequence of humcli.%.% was behind its table; it continues after %',
		p_table, p_column, largest
		USING HINT = 'This is usual after a data-only restore or a switch-over of logical replication.';
END $$;
