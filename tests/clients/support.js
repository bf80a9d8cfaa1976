// What the tests share: tokens, SQL as one of the application's callers, and the
// stock client, which is used exactly as npm brings it.
import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

const run = promisify(execFile)

const required = (name) => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run these tests by \`cargo xtask test clients\``)
  return value
}

export const relay = required('CAMPFIRE_RELAY')
export const apiKey = required('CAMPFIRE_API_KEY')
export const organization = required('CAMPFIRE_ORGANIZATION')
export const agent = required('CAMPFIRE_AGENT')
export const secret = required('CAMPFIRE_JWT_SECRET')
const database = required('CAMPFIRE_DATABASE')
const psql = required('CAMPFIRE_PSQL')

/** How long anything may take: it finds only what hangs, and a busy machine is slow. */
export const DEADLINE_MS = 120_000

/** Both serializations of the wire, as the client names them. */
export const serializations = ['1.0.0', '2.0.0']

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600

export const agentClaims = () => ({
  role: 'authenticated', sub: agent, org_id: organization, exp: inAnHour(),
})

export const visitorClaims = (conversation) => ({
  role: 'anon', org_id: organization, conversation_id: conversation, exp: inAnHour(),
})

/** Signs claims as the application's backend would: HS256. */
export function sign(claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}

/** Runs SQL as superuser, in one transaction; returns what psql prints. */
export async function sql(script) {
  const options = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', database, '-c', script]
  const { stdout } = await run(psql, options)
  return stdout.trim()
}

/** Runs SQL with a caller's role and claims, so that row-level security decides. */
export function sqlAs(claims, script) {
  const json = JSON.stringify(claims).replaceAll("'", "''")
  return sql(`begin;
    do $$ begin
      perform set_config('request.jwt.claims', '${json}', true);
    end $$;
    set local role ${claims.role};
    ${script};
    commit;`)
}

/** A conversation with values in every complex column: they must not matter. */
export async function openConversation() {
  const id = randomUUID()
  await sql(`insert into conversations
      (id, organization_id, customer_name, metadata, customer, ai_metadata,
       assignment_metadata, tags, customer_ip, priority)
    values ('${id}', '${organization}', 'Vera Visitor', '{"a": [1, {"b": null}]}', '{"vip": true}',
       '{}', '{}', array['one', 'two'], '192.0.2.7', 'high')`)
  return id
}

/** Writes as a visitor or an agent; an agent's row has complex columns as well. */
export function writeAs(claims, conversation, content) {
  const text = content.replaceAll("'", "''")
  return sqlAs(claims, claims.role === 'anon'
    ? `insert into messages (organization_id, conversation_id, content, sender_type)
       values ('${organization}', '${conversation}', '${text}', 'visitor')`
    : `insert into messages
         (organization_id, conversation_id, content, sender_type, metadata, attachments)
       values ('${organization}', '${conversation}', '${text}', 'agent',
         '{"client": "test"}', '[{"name": "a.png"}]')`)
}

/** The stock client. `t.after` closes it: an open socket would keep Node alive. */
export async function connect(t, vsn, claims) {
  const client = createClient(relay, apiKey, {
    accessToken: async () => sign(claims),
    realtime: { transport: ws, vsn },
  })
  // Before the first subscribe, or the first join goes out without the token.
  await client.realtime.setAuth()
  t.after(() => client.realtime.disconnect())
  return client
}

/** The join config of the original application, word for word. */
export const joinConfig = {
  config: { broadcast: { ack: false }, presence: { key: '' }, postgres_changes: [] },
}

/**
 * Subscribes and collects broadcasts. Rejects on every status that is not
 * SUBSCRIBED, with the client's own error: a binding mismatch would show there.
 */
export async function subscribe(client, name, options = joinConfig) {
  const channel = client.channel(name, options)
  const events = []
  const waiting = []
  channel.on('broadcast', { event: '*' }, (message) => {
    // A widget hears whether an agent is there, as soon as it joins and whenever that changes.
    if (message.event.startsWith('agent:status:')) return
    events.push(message)
    for (const check of [...waiting]) check()
  })
  const problems = []
  await new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === 'SUBSCRIBED') return resolve()
      problems.push(`${status}: ${error?.message ?? ''}`)
      reject(new Error(`${name}: ${problems.at(-1)}`))
    })
  })
  /** Resolves with the first `count` events. */
  const received = (count) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`${name}: ${events.length} of ${count} events: ${JSON.stringify(events)}`))
    }, DEADLINE_MS)
    const check = () => {
      if (events.length < count) return
      clearTimeout(timer)
      waiting.splice(waiting.indexOf(check), 1)
      resolve(events.slice(0, count))
    }
    waiting.push(check)
    check()
  })
  return { channel, events, received, problems }
}
