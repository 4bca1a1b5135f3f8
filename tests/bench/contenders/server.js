// The sample with Fastify and pg. Node's cluster starts one process for each
// core.

import cluster from 'node:cluster'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import pg from 'pg'

const { WEBHOOK_SECRET, PORT, CERTIFICATE, KEY, WORKERS, CONNECTIONS } = process.env

async function record(pool, payload, body) {
	const client = await pool.connect()
	try {
		await client.query('BEGIN')
		const inserted = await client.query(
			'INSERT INTO webhook_events (task_id, status, payload)' +
			' VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
			[payload.task_id, payload.status, body])
		if (inserted.rowCount)
			await client.query("SELECT pg_notify('webhook_events', $1)", [payload.task_id])
		await client.query('COMMIT')
	} catch (error) {
		await client.query('ROLLBACK')
		throw error
	} finally {
		client.release()
	}
}

async function serve() {
	const pool = new pg.Pool({ max: Number(CONNECTIONS) })
	const fastify = Fastify({
		https: { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) },
	})

	// The signature is that of the raw bytes.
	fastify.addContentTypeParser('application/json', { parseAs: 'buffer' },
		(request, body, done) => done(null, body))
	fastify.post('/webhook', async (request, reply) => {
		const body = request.body
		const expected = createHmac('sha256', WEBHOOK_SECRET).update(body).digest()
		const given = Buffer.from(request.headers['x-signature'] ?? '', 'hex')
		if (given.length !== expected.length || !timingSafeEqual(given, expected))
			return reply.code(401).send({ error: 'Invalid signature' })
		await record(pool, JSON.parse(body), body.toString())
		return { received: true }
	})
	await fastify.listen({ host: '127.0.0.1', port: Number(PORT), backlog: 1024 })
	process.on('SIGTERM', () => process.exit(0))
}

if (cluster.isPrimary) {
	for (let i = 0; i < Number(WORKERS); i++)
		cluster.fork()
	process.on('SIGTERM', () => process.exit(0))
} else {
	await serve()
}
