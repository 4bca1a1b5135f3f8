// The sample with Fastify and pg. Node's cluster starts WORKERS processes. pg
// prepares a statement that has a name once per connection.

import cluster from 'node:cluster'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import pg from 'pg'

const { WEBHOOK_SECRET, PORT, CERTIFICATE, KEY, WORKERS, CONNECTIONS } = process.env

const record = {
	name: 'record',
	text: `
		WITH inserted AS (
			INSERT INTO webhook_events (task_id, status, payload)
			VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
			RETURNING task_id
		)
		SELECT pg_notify('webhook_events', task_id) FROM inserted`,
}

async function serve() {
	const pool = new pg.Pool({ max: Number(CONNECTIONS) })
	const fastify = Fastify(CERTIFICATE
		? { https: { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) } }
		: {})

	// The signature is that of the raw bytes.
	fastify.addContentTypeParser('application/json', { parseAs: 'buffer' },
		(request, body, done) => done(null, body))
	fastify.post('/webhook', async (request, reply) => {
		const body = request.body
		const expected = createHmac('sha256', WEBHOOK_SECRET).update(body).digest()
		const given = Buffer.from(request.headers['x-signature'] ?? '', 'hex')
		if (given.length !== expected.length || !timingSafeEqual(given, expected))
			return reply.code(401).send({ error: 'Invalid signature' })
		const text = body.toString()
		const payload = JSON.parse(text)
		await pool.query({ ...record, values: [payload.task_id, payload.status, text] })
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
