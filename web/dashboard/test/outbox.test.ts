import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../src/api.js'
import { messageId, Outbox } from '../src/outbox.js'
import type { Message } from '../src/rows.js'

const CONVERSATION = '11111111-1111-4111-8111-111111111111'

const settled = async () => { for (let turn = 0; turn < 50; turn += 1) await Promise.resolve() }

/** An API that answers as told; by default it takes everything. */
function outbox(answers: (Error | 'hangs')[] = []) {
  const posted: { content: string; clientKey: string }[] = []
  const sent: Message[] = []
  const waits: number[] = []
  const box = new Outbox({
    async post(conversation, content, clientKey) {
      posted.push({ content, clientKey })
      const answer = answers.shift()
      if (answer === 'hangs') return new Promise(() => {})
      if (answer) throw answer
      return {
        id: messageId(conversation, clientKey), conversation_id: conversation, organization_id: 'o', content,
        sender_type: 'agent', sender_name: null, created_at: '2026-11-28T00:00:00.000000Z',
      }
    },
    onSent: (message) => sent.push(message),
    onChange: () => {},
    wait: async (ms) => void waits.push(ms),
  })
  return { box, posted, sent, waits }
}

const unreachable = () => new ApiError(0, 'unreachable', 'The relay cannot be reached')

test('the id is that of the database', () => {
  // select campfire.message_id('11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222');
  assert.equal(messageId(CONVERSATION, '22222222-2222-4222-8222-222222222222'), '61396d92-7faa-5629-b99c-b073e1e76122')
  assert.equal(
    messageId(CONVERSATION, 'ABCDEF00-2222-4222-8222-222222222222'),
    messageId(CONVERSATION, 'abcdef00-2222-4222-8222-222222222222'),
  )
})

test('a message is shown at once under the id that it will have', async () => {
  const { box, sent } = outbox()
  box.send(CONVERSATION, 'hello')
  const [pending] = box.of(CONVERSATION)
  assert.equal(pending!.state, 'sending')
  await settled()
  assert.equal(sent[0]!.id, pending!.id)
  assert.ok(box.isEmpty)
})

test('what was not answered is sent again with the same key, ever later', async () => {
  const { box, posted, waits, sent } = outbox([unreachable(), new ApiError(503, 'unready', ''), new ApiError(429, 'rate_limited', '', '', 9_000)])
  box.send(CONVERSATION, 'hello')
  await settled()
  assert.equal(new Set(posted.map(({ clientKey }) => clientKey)).size, 1)
  assert.deepEqual(waits, [500, 1_000, 9_000])
  assert.equal(sent.length, 1)
})

test('a refusal is shown at once, and so is what failed too often; a retry has the same key', async () => {
  const { box, posted, sent } = outbox([new ApiError(422, 'invalid', 'too long')])
  box.send(CONVERSATION, 'hello')
  await settled()
  const [failed] = box.of(CONVERSATION)
  assert.equal(failed!.state, 'failed')
  assert.equal(failed!.error, 'too long')
  box.retry(failed!.id)
  await settled()
  assert.equal(posted[0]!.clientKey, posted[1]!.clientKey)
  assert.equal(sent.length, 1)

  const away = outbox(Array.from({ length: 7 }, unreachable))
  away.box.send(CONVERSATION, 'hello')
  await settled()
  assert.equal(away.box.of(CONVERSATION)[0]!.state, 'failed')
  away.box.retryAll()
  await settled()
  assert.ok(away.box.isEmpty)
})

test('messages of a conversation keep their order while the first is tried again', async () => {
  const { box, sent } = outbox([unreachable(), unreachable()])
  for (const content of ['one', 'two', 'three']) box.send(CONVERSATION, content)
  await settled()
  assert.deepEqual(sent.map(({ content }) => content), ['one', 'two', 'three'])
})

test('its event ends it, even if the answer never comes; what failed can be discarded', async () => {
  const { box, posted } = outbox([unreachable()])
  box.send(CONVERSATION, 'hello')
  box.confirm(box.of(CONVERSATION)[0]!.id)
  await settled()
  assert.ok(box.isEmpty)
  assert.equal(posted.length, 1, 'it is not sent again')

  const refused = outbox([new ApiError(404, 'conversation_not_found', 'gone')])
  refused.box.send(CONVERSATION, 'hello')
  await settled()
  refused.box.discard(refused.box.of(CONVERSATION)[0]!.id)
  assert.ok(refused.box.isEmpty)
})
