-- For pgbench: the responder's statement with a batch of events of new tasks.
\set task random(1, 1000000000000000)
SELECT count(*) FROM humcli.record_batch(
	array_fill('task.status_changed'::text, ARRAY[:batch]),
	ARRAY(SELECT 'task_' || :task || '_' || i FROM generate_series(1, :batch) AS i),
	array_fill('ESTIMATE_PENDING'::text, ARRAY[:batch]),
	array_fill('PENDING'::text, ARRAY[:batch]),
	array_fill('2026-03-01 12:00:00+00'::timestamptz, ARRAY[:batch]),
	array_fill(now(), ARRAY[:batch]),
	array_fill('main'::text, ARRAY[:batch]),
	array_fill(repeat('0', 64), ARRAY[:batch]),
	array_fill('{"event":"task.status_changed","task_id":"task_0123456789","status":"ESTIMATE_PENDING","previous_status":"PENDING","timestamp":"2026-03-01T12:00:00.000Z"}'::json, ARRAY[:batch]),
	interval '10 min');
