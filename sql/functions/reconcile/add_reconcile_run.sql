-- Keeps that humcli-webhook reconcile ran, for doctor and metrics, and deletes the
-- runs that are older than 90 days.
CREATE OR REPLACE FUNCTION humcli.add_reconcile_run(
	p_started_at timestamptz,
	p_requests int,
	p_tasks int,
	p_repaired int,
	p_denied int,
	p_fault text
)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM humcli.repair_identity('reconcile_runs');
	INSERT INTO humcli.reconcile_runs (started_at, requests, tasks, repaired, denied, fault)
	VALUES (p_started_at, p_requests, p_tasks, p_repaired, p_denied, p_fault);
	DELETE FROM humcli.reconcile_runs r WHERE r.ended_at < now() - interval '90 days';
END $$;
