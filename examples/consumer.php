#!/usr/bin/env php
<?php
// Processes every event, also those that arrived while this program was stopped.
// apt-get install php-cli php-pgsql;  PGDATABASE=humcli examples/consumer.php

const NAME = "php";     // the subscription

// Your work. It is called once per event, and after a crash perhaps again.
function process_task_update($payload)
{
    echo $payload["task_id"], " ", $payload["status"], "\n";
}

// Processes all unread events.
function drain($db)
{
    do {
        pg_query($db, "BEGIN");
        // jsonb can't hold \u0000; payload() is then NULL, and the columns are used.
        $rows = pg_fetch_all(pg_query_params($db, "SELECT position, coalesce(humcli.payload(payload),
            jsonb_build_object('task_id', task_id, 'status', status)) AS payload
            FROM humcli.fetch($1)", [NAME]));
        foreach ($rows as $row)
            process_task_update(json_decode($row["payload"], true));
        if ($rows)
            pg_query_params($db, "SELECT humcli.ack($1, $2)", [NAME, end($rows)["position"]]);
        pg_query($db, "COMMIT");
    } while ($rows);
}

// Runs LISTEN before the first drain, so that no event falls in between.
function listen()
{
    $db = pg_connect("", PGSQL_CONNECT_FORCE_NEW);
    pg_query_params($db, "SELECT humcli.subscribe($1)", [NAME]);
    pg_query($db, "LISTEN humcli_events");
    while (true) {
        drain($db);
        if (!pg_get_notify($db)) {
            $read = [pg_socket($db)];
            $none = null;
            stream_select($read, $none, $none, 30);     // notified, or to be sure
            pg_consume_input($db);
        }
        while (pg_get_notify($db));
    }
}

set_error_handler(function ($level, $message) { throw new ErrorException($message); });
while (true) {
    try {
        listen();
    } catch (ErrorException $error) {       // the connection is lost
        echo $error->getMessage(), "\n";
        sleep(1);
    }
}
