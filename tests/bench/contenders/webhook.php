<?php
// The sample in PHP by PDO. PERSISTENT says whether connections are persistent.

$body = file_get_contents('php://input');
$expected = hash_hmac('sha256', $body, getenv('WEBHOOK_SECRET'));
header('Content-Type: application/json');
if (!hash_equals($expected, $_SERVER['HTTP_X_SIGNATURE'] ?? '')) {
	http_response_code(401);
	echo json_encode(['error' => 'Invalid signature']);
	exit;
}
$payload = json_decode($body, true);

$database = new PDO(getenv('DATABASE'), null, null, [
	PDO::ATTR_PERSISTENT => getenv('PERSISTENT') === 'yes',
	PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
]);
$database->beginTransaction();
$insert = $database->prepare('INSERT INTO webhook_events (task_id, status, payload)
	VALUES (?, ?, ?) ON CONFLICT DO NOTHING');
$insert->execute([$payload['task_id'], $payload['status'], $body]);
if ($insert->rowCount()) {
	$database->prepare("SELECT pg_notify('webhook_events', ?)")
		->execute([$payload['task_id']]);
}
$database->commit();

echo json_encode(['received' => true]);
