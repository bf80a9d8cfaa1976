// Unmodified supabase-js against the relay, in both serializations.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import {
  agentClaims, connect, joinConfig, openConversation, organization, serializations, sql, subscribe,
  visitorClaims, writeAs,
} from '../support.js'

/** The first event, leaving out that the conversation was made: that may still be on its way when the channel is joined. */
async function firstSince({ received }) {
  const [first] = await received(1)
  return first.event === 'conversation:created' ? (await received(2))[1] : first
}

for (const vsn of serializations) {
  test(`zero binding mismatches, with complex columns in the tables (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const client = await connect(t, vsn, agentClaims())
    const names = [
      `bcast:org:${organization}`,
      `bcast:org:${organization}:conversations`,
      `bcast:org:${organization}:conv:${conversation}`,
      `bcast:org:${organization}:widget:${conversation}`,
    ]
    const all = await Promise.all(names.map((name) => subscribe(client, name)))
    await writeAs(agentClaims(), conversation, 'hello')
    const heard = await Promise.all(all.map(firstSince))
    assert.deepEqual(
      heard.map((first) => first.event),
      ['conversation:updated', 'message:created', 'message:created', 'message:created'],
    )
    for (const { channel, problems } of all) {
      assert.deepEqual(problems, [])
      assert.equal(channel.state, 'joined')
      assert.deepEqual(channel.bindings.postgres_changes ?? [], [])
    }
  })

  test(`a visitor's message reaches the dashboard, and the answer the widget (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const visitor = visitorClaims(conversation)
    const [widgetClient, dashboardClient] = [
      await connect(t, vsn, visitor), await connect(t, vsn, agentClaims()),
    ]
    const widget = await subscribe(widgetClient, `bcast:org:${organization}:widget:${conversation}`)
    const dashboard = await subscribe(dashboardClient, `bcast:org:${organization}:conv:${conversation}`)

    await writeAs(visitor, conversation, "it's me — 👋")
    const [question] = await dashboard.received(1)
    assert.equal(question.event, 'message:created')
    assert.equal(question.payload.content, "it's me — 👋")
    assert.equal(question.payload.sender_type, 'visitor')

    await writeAs(agentClaims(), conversation, 'welcome')
    const answers = await widget.received(2)
    assert.deepEqual(answers.map(({ payload }) => payload.content), ["it's me — 👋", 'welcome'])
  })

  test(`row events carry their id and time, and no column that is not for them (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const client = await connect(t, vsn, agentClaims())
    const list = await subscribe(client, `bcast:org:${organization}:conversations`)
    const conv = await subscribe(client, `bcast:org:${organization}:conv:${conversation}`)
    await writeAs(agentClaims(), conversation, 'hello')
    const [onList, onConv] = [await firstSince(list), await firstSince(conv)]
    const columns = ['content', 'conversation_id', 'created_at', 'id', 'organization_id',
      'sender_email', 'sender_name', 'sender_type']
    assert.deepEqual(Object.keys(onList.payload).sort(), columns)
    assert.deepEqual(
      Object.keys(onConv.payload).sort(), columns.filter((column) => column !== 'sender_email'),
    )
    assert.match(onList.meta.id, /^[0-9a-f]{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.[0-9a-f]{8}$/)
    assert.equal(onConv.meta.id, onList.meta.id)
    assert.ok(Math.abs(Date.parse(onList.meta.committed_at) - Date.now()) < 60_000)
  })

  test(`a burst arrives complete and in order (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const client = await connect(t, vsn, agentClaims())
    const conv = await subscribe(client, `bcast:org:${organization}:conv:${conversation}`)
    await sql(`insert into messages (organization_id, conversation_id, content, sender_type)
      select '${organization}', '${conversation}', n, 'visitor' from generate_series(1, 400) n`)
    const events = await conv.received(400)
    assert.deepEqual(
      events.map(({ payload }) => payload.content),
      Array.from({ length: 400 }, (_, index) => String(index + 1)),
    )
  })

  test(`typing goes from client to client and not back to its sender (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const name = `bcast:org:${organization}:conv:${conversation}`
    const visitor = await subscribe(await connect(t, vsn, visitorClaims(conversation)), name)
    const agent = await subscribe(await connect(t, vsn, agentClaims()), name)
    const sent = await visitor.channel.send({ type: 'broadcast', event: 'typing:start', payload: {} })
    assert.equal(sent, 'ok')
    const [typing] = await agent.received(1)
    assert.equal(typing.event, 'typing:start')
    // What the visitor hears next is the row, not itself.
    await writeAs(agentClaims(), conversation, 'go on')
    const [first] = await visitor.received(1)
    assert.equal(first.event, 'message:created')
  })

  test(`another conversation is refused with a reason (${vsn})`, async (t) => {
    const [own, other] = [await openConversation(), await openConversation()]
    const client = await connect(t, vsn, visitorClaims(own))
    await assert.rejects(
      subscribe(client, `bcast:org:${organization}:widget:${other}`),
      /CHANNEL_ERROR: Unauthorized/,
    )
    // The refused channel would be tried again and again.
    await client.removeAllChannels()
    await subscribe(client, `bcast:org:${organization}:widget:${own}`)
  })

  test(`a channel that is left and joined again hears what is new (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const client = await connect(t, vsn, agentClaims())
    const name = `bcast:org:${organization}:conv:${conversation}`
    const witness = await subscribe(await connect(t, vsn, agentClaims()), name)
    const first = await subscribe(client, name)
    assert.equal(await client.removeChannel(first.channel), 'ok')
    await writeAs(agentClaims(), conversation, 'unheard')
    // Who joins before the relay has sent it would rightly hear it.
    await witness.received(1)
    const second = await subscribe(client, name)
    await writeAs(agentClaims(), conversation, 'heard')
    const [event] = await second.received(1)
    assert.equal(event.payload.content, 'heard')
    assert.equal(first.events.length, 0)
  })
}

test('a change feed is refused with a reason the application can show', async (t) => {
  const client = await connect(t, '2.0.0', agentClaims())
  const channel = client.channel(`bcast:org:${organization}`, joinConfig)
  channel.on('postgres_changes', { event: '*', schema: 'public', table: 'messages' }, () => {})
  const [status, error] = await new Promise((resolve) => {
    channel.subscribe((...answer) => resolve(answer))
  })
  assert.equal(status, 'CHANNEL_ERROR')
  assert.match(error.message, /PostgresChangesNotSupported/)
  await client.removeAllChannels()
})

test('an unknown key opens no socket, and the client says so', async (t) => {
  const { createClient } = await import('@supabase/supabase-js')
  const { default: ws } = await import('ws')
  const client = createClient(process.env.CAMPFIRE_RELAY, `unknown-${randomUUID()}`, {
    accessToken: async () => '', realtime: { transport: ws },
  })
  t.after(() => client.realtime.disconnect())
  const status = await new Promise((resolve) => {
    client.channel(`bcast:org:${organization}`).subscribe((answer) => resolve(answer))
  })
  assert.notEqual(status, 'SUBSCRIBED')
})
