-- The view of how far each subscription and pool is. Counts stop at 10,001,
-- "more than 10,000", because a longer count is slow when many events wait. For
-- the same reason a subscription of some statuses or secrets is counted among the next
-- 10,001 rows. "oldest" is the recording time of the first waiting event. The
-- view has a file of its own, because it needs functions, and some functions
-- need the other views.
DO $$ BEGIN IF to_regclass('humcli.subscription_status') IS NULL THEN
	CREATE VIEW humcli.subscription_status AS
	SELECT s.name, s.owner, s.statuses, s.pool,
		least(a.rows + r.rows + j.rows - j.claimed, 10001) AS pending,
		(SELECT e.recorded_at FROM humcli.events e WHERE e.id = least(a.first, j.first)) AS oldest,
		j.claimed, d.rows AS dead, s.last_seen, humcli.has_foreign_xids(s.name) AS needs_rebase,
		s.secrets
	FROM humcli.subscriptions s
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows, min(n.id) AS first
		FROM (
			SELECT w.id, w.status, w.secret_name
			FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, NULL, NULL, 10001) w
			UNION ALL
			SELECT w.id, w.status, w.secret_name
			FROM humcli.unread_events(coalesce(s.win, s.done), txid_current_snapshot(), 0, 0, NULL, NULL, 10001) w
		) n
		WHERE humcli.subscription_covers(s, n.status, n.secret_name)
	) a
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows
		FROM (SELECT FROM humcli.replays p WHERE p.subscription = s.name LIMIT 10001) q
	) r
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows, min(q.event_id) AS first,
			count(*) FILTER (WHERE q.worker IS NOT NULL AND q.due > now()) AS claimed
		FROM (SELECT k.event_id, k.worker, k.due FROM humcli.jobs k
			WHERE k.subscription = s.name ORDER BY k.event_id LIMIT 10001) q
	) j
	CROSS JOIN LATERAL (
		SELECT count(*) AS rows
		FROM (SELECT FROM humcli.dead k WHERE k.subscription = s.name LIMIT 10001) q
	) d
	ORDER BY s.name;
END IF; END $$;
