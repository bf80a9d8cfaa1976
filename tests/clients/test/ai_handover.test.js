// The example service that answers as `ai` and hands over to people, as it is started by hand.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { DEADLINE_MS, connect, relay, secret, sql, subscribe } from '../support.js'

const PROGRAM = fileURLToPath(new URL('../../../examples/ai-handover/main.js', import.meta.url))

// Of its own: the service answers everybody in its organization.
const organization = randomUUID()
const agent = randomUUID()
const inAnHour = () => Math.floor(Date.now() / 1000) + 3600
const agentClaims = { role: 'authenticated', sub: agent, org_id: organization, exp: inAnHour() }
await sql(`insert into organizations (id, name) values ('${organization}', 'With an AI');
  insert into agents (organization_id, user_id, display_name) values ('${organization}', '${agent}', 'Ada')`)

/** Starts the service; resolves when it listens and has looked through what was open. */
async function start(t) {
  const env = { ...process.env, CAMPFIRE_RELAY: relay, CAMPFIRE_ORGANIZATION: organization, CAMPFIRE_JWT_SECRET: secret }
  const service = spawn(process.execPath, [PROGRAM], { env, stdio: ['ignore', 'inherit', 'pipe'] })
  t.after(() => service.kill('SIGKILL'))
  const ended = new Promise((resolve) => service.once('exit', resolve))
  let text = ''
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the service is not ready: ${text}`)), DEADLINE_MS)
    service.once('exit', () => reject(new Error(`the service has ended: ${text}`)))
    service.stderr.on('data', (chunk) => {
      text += chunk
      if (!text.includes('looked through what was open')) return
      clearTimeout(timer)
      resolve()
    })
  })
  return {
    kill: async (signal) => {
      service.kill(signal)
      return ended
    },
  }
}

async function openConversation() {
  const id = randomUUID()
  await sql(`insert into conversations (id, organization_id, customer_name) values ('${id}', '${organization}', 'Vera')`)
  return id
}

const ask = (conversation, content) => sql(`insert into messages (organization_id, conversation_id, content, sender_type)
  values ('${organization}', '${conversation}', '${content}', 'visitor')`)

const answers = async (conversation) => {
  const rows = await sql(`select content from messages
    where conversation_id = '${conversation}' and sender_type = 'ai' order by created_at`)
  return rows === '' ? [] : rows.split('\n')
}

async function eventually(what, check) {
  for (const end = Date.now() + DEADLINE_MS; ;) {
    if (await check()) return
    if (Date.now() > end) throw new Error(`not so: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('the AI answers once, whatever becomes of it, and hands over', async (t) => {
  const conversation = await openConversation()
  // Written before the service ran, and answered by two of them.
  await ask(conversation, 'when are you open?')
  const [first, second] = await Promise.all([start(t), start(t)])
  const hours = 'We are open from 9 to 17 on weekdays.'
  await eventually('the question is answered', async () => (await answers(conversation)).length > 0)

  // By an event; both hear it.
  const claims = { role: 'anon', org_id: organization, conversation_id: conversation, exp: inAnHour() }
  const widget = await subscribe(await connect(t, '2.0.0', claims), `org:${organization}:widget:${conversation}`)
  await ask(conversation, 'what does it cost?')
  const [question, answer] = await widget.received(2)
  assert.equal(question.payload.sender_type, 'visitor')
  assert.equal(answer.payload.sender_type, 'ai')
  assert.equal(answer.payload.sender_name, 'Assistant')
  assert.match(answer.payload.content, /10 a month/)

  // Killed, asked meanwhile, started again, and again.
  await Promise.all([first.kill('SIGKILL'), second.kill('SIGKILL')])
  await ask(conversation, 'hello?')
  const third = await start(t)
  await eventually('it is answered after the restart', async () => (await answers(conversation)).length > 2)
  assert.equal(await third.kill('SIGTERM'), 0)
  const fourth = await start(t)
  assert.deepEqual(await answers(conversation), [hours, answer.payload.content,
    'I am the assistant. Ask me about opening hours or prices, or ask for a person.'])

  // Handed over: the agent sees it, and the AI is silent from then on.
  const list = await subscribe(await connect(t, '2.0.0', agentClaims), `org:${organization}:conversations`)
  const handedOver = new Promise((resolve) => {
    list.channel.on('broadcast', { event: 'conversation:updated' }, (message) => resolve([message, Date.now()]))
  })
  await ask(conversation, 'I want to talk to a human')
  const [{ payload, meta }, seenAt] = await handedOver
  assert.equal(payload.assignee_id, agent)
  assert.equal(payload.status, 'pending')
  t.diagnostic(`from the commit of the handover to the agent: ${seenAt - Date.parse(meta.committed_at)} ms`)
  await eventually('the visitor is told', async () => (await answers(conversation)).at(-1) === 'Ada will answer you.')
  await ask(conversation, 'are you there?')
  // Answered in another conversation afterwards, so it has heard of that one.
  const other = await openConversation()
  await ask(other, 'and what does it cost?')
  await eventually('the other one is answered', async () => (await answers(other)).length === 1)
  assert.equal((await answers(conversation)).length, 4)
  assert.equal(await fourth.kill('SIGTERM'), 0)
})

test('a question that came while the one before was answered is answered, too', async (t) => {
  const conversation = await openConversation()
  // As it stands if the answer to the first one was written after the second.
  await sql(`insert into messages (organization_id, conversation_id, content, sender_type, client_key, created_at)
    select '${organization}', '${conversation}', content, sender, key, now() + place * interval '1 millisecond'
    from (values (1, 'when are you open?', 'visitor', null::uuid), (2, 'and what does it cost?', 'visitor', null)) as m (place, content, sender, key)`)
  await sql(`insert into messages (organization_id, conversation_id, content, sender_type, client_key)
    select organization_id, conversation_id, 'From 9 to 17.', 'ai', id from messages
    where conversation_id = '${conversation}' and content like 'when%'`)
  const service = await start(t)
  await eventually('the second question is answered', async () => (await answers(conversation)).length === 2)
  assert.match((await answers(conversation))[1], /10 a month/)
  assert.equal(await service.kill('SIGTERM'), 0)
})
