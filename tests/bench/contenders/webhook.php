<?php
// The sample in PHP by the extension pgsql. PERSISTENT says whether connections
// are persistent. A persistent connection keeps its prepared statement.

const RECORD = <<<'SQL'
	WITH inserted AS (
		INSERT INTO webhook_events (task_id, status, payload)
		VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
		RETURNING task_id
	)
	SELECT pg_notify('webhook_events', task_id) FROM inserted
	SQL;

function record(array $values): bool
{
	if (getenv('PERSISTENT') !== 'yes')
		return pg_query_params(pg_connect(getenv('DATABASE')), RECORD, $values) !== false;
	$database = pg_pconnect(getenv('DATABASE'));
	// It fails on a new connection, which has no such statement yet.
	$recorded = @pg_execute($database, 'record', $values);
	if ($recorded === false && pg_prepare($database, 'record', RECORD))
		$recorded = pg_execute($database, 'record', $values);
	return $recorded !== false;
}

$body = file_get_contents('php://input');
$expected = hash_hmac('sha256', $body, getenv('WEBHOOK_SECRET'));
header('Content-Type: application/json');
if (!hash_equals($expected, $_SERVER['HTTP_X_SIGNATURE'] ?? '')) {
	http_response_code(401);
	echo json_encode(['error' => 'Invalid signature']);
	exit;
}
$payload = json_decode($body, true);
if (!record([$payload['task_id'], $payload['status'], $body])) {
	http_response_code(503);
	echo json_encode(['error' => 'Not recorded']);
	exit;
}
echo json_encode(['received' => true]);
