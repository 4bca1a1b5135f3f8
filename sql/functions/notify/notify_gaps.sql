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
		-- One pass over the history. An event had no gap before it if it followed
		-- the last of the older rows before it.
		PERFORM pg_notify('humcli_gaps', format('{"task_id":%s,"kind":"%s"}', to_json(task),
			CASE WHEN g.status_before IS NULL THEN 'start' ELSE 'hole' END))
		FROM (
			WITH history AS (
				SELECT l.place, l.id, l.status, l.previous_status,
					lag(l.id) OVER (ORDER BY l.place) AS id_before,
					coalesce(lag(l.status) OVER (ORDER BY l.place),
						(SELECT r.status FROM humcli.retired r WHERE r.task_id = task)) AS status_before,
					max(CASE WHEN l.id <> ALL (p_id) THEN l.place END) OVER (ORDER BY l.place
						ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS older_place
				FROM humcli.timeline l
				WHERE l.task_id = task
			)
			SELECT h.place, h.id, h.previous_status, h.id_before, h.status_before,
				coalesce(o.status, (SELECT r.status FROM humcli.retired r WHERE r.task_id = task),
					'PENDING') AS older_status
			FROM history h
			LEFT JOIN history o ON o.place = h.older_place
		) g
		WHERE g.previous_status <> coalesce(g.status_before, 'PENDING')
			AND (g.id = ANY (p_id)
				OR g.id_before = ANY (p_id) AND g.previous_status = g.older_status)
		ORDER BY g.place;
	END LOOP;
END $$;
