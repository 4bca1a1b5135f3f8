#!/usr/bin/env node
// Every event, also those that came while this did not run.
// npm install pg;  PGDATABASE=humcli node examples/consumer.mjs
import pg from "pg";

const NAME = "node";    // the subscription

// Your work. Once per event; after a crash in it, perhaps again.
async function process_task_update(payload) {
    console.log(payload.task_id, payload.status);
}

// Hands out what is there, until nothing is.
async function drain(db) {
    let rows;
    do {
        await db.query("BEGIN");
        // (jsonb can't hold \u0000: then the columns have to do.)
        ({ rows } = await db.query(`SELECT position, coalesce(humcli.payload(payload),
            jsonb_build_object('task_id', task_id, 'status', status)) AS payload
            FROM humcli.fetch($1)`, [NAME]));
        for (const row of rows)
            await process_task_update(row.payload);
        if (rows.length)
            await db.query("SELECT humcli.ack($1, $2)", [NAME, rows.at(-1).position]);
        await db.query("COMMIT");
    } while (rows.length);
}

// LISTENs first and looks then, so that nothing falls in between.
async function listen(db) {
    let wake, woken;
    const lost = new Promise((_, reject) => db.on("error", reject).on("end", reject));
    const sleep = () => { woken = new Promise(resolve => { wake = resolve; }); };
    lost.catch(() => {});
    sleep();
    db.on("notification", () => wake());
    await db.connect();
    await db.query("SELECT humcli.subscribe($1)", [NAME]);
    await db.query("LISTEN humcli_events");
    for (;;) {
        await drain(db);
        const timer = setTimeout(() => wake(), 30000);  // woken, or to be sure
        await Promise.race([woken, lost]);
        clearTimeout(timer);
        sleep();
    }
}

for (;;) {
    const db = new pg.Client();
    await listen(db).catch(error => console.log(String(error)));    // the connection is lost
    await db.end().catch(() => {});
    await new Promise(resolve => setTimeout(resolve, 1000));
}
