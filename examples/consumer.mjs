#!/usr/bin/env node
// Processes every event, also those that arrived while this program was stopped.
// npm install pg;  PGDATABASE=humcli node examples/consumer.mjs
import pg from "pg";

const NAME = "node";    // the subscription
// Without PGHOST, pg would use TCP; libpq and psql use Debian's socket.
const HOST = process.env.PGHOST ?? "/var/run/postgresql";

// Your work. It is called once per event, and after a crash perhaps again.
async function process_task_update(payload) {
    console.log(payload.task_id, payload.status);
}

// Processes all unread events.
async function drain(db) {
    let rows;
    do {
        await db.query("BEGIN");
        // jsonb can't hold \u0000; payload() is then NULL, and the columns are used.
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

// Runs LISTEN before the first drain, so that no event falls in between.
async function listen(db) {
    let notify, notified;
    const lost = new Promise((_, reject) => db.on("error", reject).on("end", reject));
    const sleep = () => { notified = new Promise(resolve => { notify = resolve; }); };
    lost.catch(() => {});
    sleep();
    db.on("notification", () => notify());
    await db.connect();
    await db.query("SELECT humcli.subscribe($1)", [NAME]);
    await db.query("LISTEN humcli_events");
    for (;;) {
        await drain(db);
        const timer = setTimeout(() => notify(), 30000);  // notified, or to be sure
        await Promise.race([notified, lost]);
        clearTimeout(timer);
        sleep();
    }
}

for (;;) {
    const db = new pg.Client({ host: HOST });
    await listen(db).catch(error => console.log(String(error)));    // the connection is lost
    await db.end().catch(() => {});
    await new Promise(resolve => setTimeout(resolve, 1000));
}
