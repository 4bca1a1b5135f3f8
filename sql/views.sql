-- The views. An existing view is not replaced, because that would wait for its
-- readers, and they could wait for us. An upgrade replaces only the views that
-- it changes. It does not drop them, because sessions that record now have the
-- old view in a cached plan.

-- All deliveries: events, repeats, and the row that purge() left of a retired
-- task.
DO $$ BEGIN IF to_regclass('humcli.deliveries') IS NULL THEN
	CREATE VIEW humcli.deliveries AS
	SELECT e.task_id, e.event, e.occurred_at, e.status, e.previous_status,
		e.id AS event_id, NULL::bigint AS repeat_id
	FROM humcli.events e
	UNION ALL
	SELECT r.task_id, r.event, r.occurred_at, r.status, r.previous_status,
		NULL::bigint, r.id
	FROM humcli.repeats r
	UNION ALL
	SELECT t.task_id, t.event, t.occurred_at, t.status, t.previous_status,
		t.event_id, NULL::bigint
	FROM humcli.retired t;
END IF; END $$;

-- Timeline: the history of each task in order. Events with equal times are ordered
-- by order_equal_times(), which the view calls once for each such group: a row
-- comes after the rows that it follows from.
DO $$ BEGIN IF to_regclass('humcli.timeline') IS NULL THEN
	CREATE VIEW humcli.timeline AS
	SELECT t.task_id,
		row_number() OVER (PARTITION BY t.task_id ORDER BY t.occurred_at, t.rank, t.id) AS place,
		t.id, t.event, t.status, t.previous_status, t.occurred_at,
		t.received_at, t.recorded_at,
		t.first_of_status, s.event AS meaning, s.trigger, s.terminal, t.secret_name, t.payload
	FROM (
		-- max() is of one array and NULLs. As an aggregate it evaluates its
		-- argument once a row; first_value() would do so for each row again.
		SELECT e.*,
			array_position(max(CASE WHEN e.at_once > 1 AND e.nth = 1
				THEN humcli.order_equal_times(e.task_id, e.occurred_at) END)
				OVER (PARTITION BY e.task_id, e.occurred_at), e.id) AS rank
		FROM (
			SELECT v.*, count(*) OVER (PARTITION BY v.task_id, v.occurred_at) AS at_once,
				row_number() OVER (PARTITION BY v.task_id, v.occurred_at ORDER BY v.id) AS nth
			FROM humcli.events v
		) e
	) t
	LEFT JOIN humcli.statuses s ON s.status = t.status
	ORDER BY t.task_id, t.occurred_at, t.rank, t.id;
END IF; END $$;

-- Gaps: events whose previous_status is not the status recorded before them. A
-- task's first event is a gap only if its previous_status is not PENDING, because
-- tasks begin there. An event without previous_status is no gap. A gap closes
-- when the missing event arrives. kind is 'start' if no event is recorded before
-- it, 'hole' if another one is. The tasks of send and probe (task_test_...) have
-- none.
--
-- A status that reconcile read is a gap of its own, of kind 'read', until the webhook
-- of that status arrives. It is left out between other events, because nobody knows
-- which of them it missed. An event that follows on it has no further gap.
DO $$ BEGIN IF to_regclass('humcli.gaps') IS NULL THEN
	CREATE VIEW humcli.gaps AS
	SELECT g.task_id, CASE WHEN g.was_read THEN 'read' WHEN g.status_before IS NULL THEN 'start' ELSE 'hole' END AS kind,
		g.place, g.id, g.event, g.previous_status, g.status, g.occurred_at,
		g.status_before, g.id_before, g.occurred_before
	FROM (
		SELECT l.task_id, l.place, l.id, l.event, l.previous_status, l.status, l.occurred_at,
			l.event = 'api.status_read' AS was_read,
			CASE WHEN l.event = 'api.status_read' THEN l.previous_status
				ELSE coalesce(lag(l.status) OVER w, r.status) END AS status_before,
			CASE WHEN l.event <> 'api.status_read'
				THEN coalesce(lag(l.id) OVER w, r.event_id) END AS id_before,
			CASE WHEN l.event <> 'api.status_read'
				THEN coalesce(lag(l.occurred_at) OVER w, r.occurred_at) END AS occurred_before
		FROM humcli.timeline l
		LEFT JOIN humcli.retired r ON r.task_id = l.task_id
		WINDOW w AS (PARTITION BY l.task_id, l.event = 'api.status_read' ORDER BY l.place)
	) g
	WHERE CASE WHEN g.was_read
		THEN NOT EXISTS (SELECT FROM humcli.events e
			WHERE e.task_id = g.task_id AND e.status = g.status AND e.id > g.id
				AND e.event <> 'api.status_read')
		ELSE g.previous_status <> coalesce(g.status_before, 'PENDING')
			AND NOT humcli.is_status_read(g.task_id, g.previous_status, g.occurred_before, g.occurred_at)
		END
		AND strpos(g.task_id, 'task_test_') <> 1
	ORDER BY g.task_id, g.place;
END IF; END $$;

-- Tasks: the current status of each task, which is the last row of its timeline.
DO $$ BEGIN IF to_regclass('humcli.tasks') IS NULL THEN
	CREATE VIEW humcli.tasks AS
	SELECT DISTINCT ON (l.task_id)
		l.task_id, l.status, l.previous_status, l.occurred_at, l.id, l.event,
		l.meaning, l.trigger, l.terminal, l.place AS events,
		l.secret_name
	FROM humcli.timeline l
	ORDER BY l.task_id, l.place DESC;
END IF; END $$;
