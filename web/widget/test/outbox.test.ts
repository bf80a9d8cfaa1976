import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../src/api.js'
import { type Draft, Outbox } from '../src/outbox.js'
import type { MessageRow } from '../src/rows.js'

const stored = ({ key, content }: Draft): MessageRow => ({
  id: `id-${key}`, conversation_id: 'c', organization_id: 'o', content, sender_type: 'visitor', sender_name: null,
  created_at: '2026-11-28T08:00:00.000000Z',
})

/** An outbox whose requests the test answers. */
function outbox(kept: Draft[] = []) {
  const requests: { draft: Draft; succeed(): void; fail(error: Error): void }[] = []
  const sent: string[] = []
  const failures: string[] = []
  const box = new Outbox({
    post: (draft) => new Promise((resolve, reject) => {
      requests.push({ draft, succeed: () => resolve(stored(draft)), fail: reject })
    }),
    sent: (row) => void sent.push(row.content),
    changed: () => {},
    failed: (error) => void failures.push((error as ApiError).code),
  }, { minMs: 5, maxMs: 10 }, kept)
  const request = async (count: number) => {
    while (requests.length < count) await new Promise((resolve) => setTimeout(resolve, 1))
    return requests[count - 1]!
  }
  return { box, requests, request, sent, failures }
}

const states = (box: Outbox) => box.pending.map(({ content, state }) => `${content}: ${state}`)

test('one request at a time, in the order of sending', async () => {
  const { box, requests, request, sent } = outbox()
  box.add('one')
  box.add('two')
  assert.equal(requests.length, 1)
  requests[0]!.succeed()
  const second = await request(2)
  assert.equal(second.draft.content, 'two')
  second.succeed()
  while (box.pending.length > 0) await new Promise(setImmediate)
  assert.deepEqual(sent, ['one', 'two'])
})

test('what may succeed later is repeated with the same key, and what follows waits', async () => {
  const { box, request, requests } = outbox()
  box.add('one')
  box.add('two')
  const first = await request(1)
  first.fail(new ApiError('network', 'offline'))
  const second = await request(2)
  assert.equal(second.draft.key, first.draft.key)
  second.fail(new ApiError('unavailable', 'restarting', 503))
  const third = await request(3)
  assert.equal(third.draft.key, first.draft.key)
  assert.deepEqual(requests.map(({ draft }) => draft.content), ['one', 'one', 'one'])
  box.close()
})

test('what is refused for good waits for the visitor, and what follows goes on', async () => {
  const { box, request, failures } = outbox()
  const { key } = box.add('too long')
  box.add('two')
  const first = await request(1)
  first.fail(new ApiError('invalid', 'too long', 422))
  const second = await request(2)
  assert.equal(second.draft.content, 'two')
  assert.deepEqual(states(box), ['too long: failed', 'two: sending'])
  assert.deepEqual(failures, ['invalid'])
  second.succeed()
  while (box.pending.length > 1) await new Promise(setImmediate)
  box.retry(key)
  const third = await request(3)
  assert.equal(third.draft.key, key)
  third.fail(new ApiError('invalid', 'too long', 422))
  while (states(box)[0] !== 'too long: failed') await new Promise(setImmediate)
  box.remove(key)
  assert.deepEqual(box.pending, [])
})

test('an event that comes before the answer confirms it, and the answer changes nothing', async () => {
  const { box, request, sent } = outbox()
  const { key } = box.add('one')
  const first = await request(1)
  box.remove(key)
  first.fail(new ApiError('timeout', 'no answer'))
  await new Promise(setImmediate)
  assert.deepEqual(box.pending, [])
  assert.deepEqual(sent, [])
})

test('what was kept over a reload is sent with the key that it had', async () => {
  const { box, request } = outbox([{ key: 'old', content: 'kept', at: 1 }])
  box.flush()
  assert.equal((await request(1)).draft.key, 'old')
  box.close()
})

test('waking ends a wait, and a closed outbox sends nothing', async () => {
  const { box, request, requests } = outbox()
  box.add('one')
  ;(await request(1)).fail(new ApiError('rate_limited', 'slow down', 429, null, 60_000))
  while (states(box)[0] !== 'one: waiting') await new Promise(setImmediate)
  box.close()
  box.flush()
  assert.equal(requests.length, 1)
  box.reopen()
  assert.equal((await request(2)).draft.content, 'one')
})
