-- Notifies the channel humcli_gaps of each gap that some new events have
-- opened, before themselves or before the event that now follows them. No table
-- remembers these notifications; one may be lost, and the view humcli.gaps has
-- every gap.
CREATE OR REPLACE FUNCTION humcli.notify_gaps(p_id bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	task text;
BEGIN
	-- Most events are the latest of their task, and follow the status before
	-- them. Only the others need the view, which sorts the whole history.
	FOR task IN
		SELECT DISTINCT e.task_id
		FROM (SELECT DISTINCT unnest(p_id) AS id) n
		CROSS JOIN LATERAL (
			SELECT v.task_id, v.occurred_at, nullif(v.previous_status, '') AS previous_status
			FROM humcli.events v
			WHERE v.id = n.id
			LIMIT 1
		) e
		CROSS JOIN LATERAL (
			SELECT count(*) FILTER (WHERE f.occurred_at >= e.occurred_at) AS not_before,
				array_agg(f.occurred_at ORDER BY f.occurred_at DESC)
					FILTER (WHERE f.occurred_at < e.occurred_at) AS times,
				(array_agg(f.status ORDER BY f.occurred_at DESC)
					FILTER (WHERE f.occurred_at < e.occurred_at))[1] AS status
			FROM humcli.events f
			WHERE f.task_id = e.task_id
		) b
		WHERE b.not_before > 1 OR b.times[1] = b.times[2]
			OR e.previous_status <> coalesce(b.status, 'PENDING')
			OR b.status IS NULL AND (SELECT r.status FROM humcli.retired r WHERE r.task_id = e.task_id) IS NOT NULL
	LOOP
		PERFORM pg_notify('humcli_gaps', format('{"task_id":%s,"kind":"%s"}', to_json(g.task_id), g.kind))
		FROM humcli.gaps g
		WHERE g.task_id = task AND (
			g.id = ANY (p_id)
			OR g.id_before = ANY (p_id) AND g.previous_status = coalesce(
				(SELECT l.status FROM humcli.timeline l
				WHERE l.task_id = task AND l.place < g.place AND l.id <> ALL (p_id)
				ORDER BY l.place DESC LIMIT 1),
				(SELECT r.status FROM humcli.retired r WHERE r.task_id = task),
				'PENDING'));
	END LOOP;
END $$;
