import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MessageRow, ReceiptRow } from '../src/rows.js'
import { Thread } from '../src/thread.js'

const time = (second: number) => `2026-11-28T08:00:${String(second).padStart(2, '0')}.000000Z`

const row = (id: string, second: number, sender_type: MessageRow['sender_type'] = 'agent'): MessageRow => ({
  id, conversation_id: 'c', organization_id: 'o', content: id, sender_type, sender_name: null, created_at: time(second),
})

const receipt = (last_read_message_id: string, second: number, reader_type: 'visitor' | 'agent' = 'visitor'): ReceiptRow =>
  ({ conversation_id: 'c', reader_type, last_read_message_id, read_at: time(second) })

const ids = (thread: Thread) => thread.messages.map(({ id }) => id).join('')

test('messages are in order of time and id, however they come, and each once', () => {
  const thread = new Thread()
  assert.deepEqual(thread.add([row('c', 3), row('a', 1)]).map(({ id }) => id), ['c', 'a'])
  assert.deepEqual(thread.add([row('b', 2), row('a', 1)]).map(({ id }) => id), ['b'])
  thread.add([row('B', 2)])
  assert.equal(ids(thread), 'aBbc')
})

test('the first answer says where older messages begin, even if an event was faster', () => {
  const thread = new Thread()
  thread.add([row('c', 3)])
  thread.latest([row('b', 2), row('c', 3)], 'older')
  assert.equal(ids(thread), 'bc')
  assert.equal(thread.cursor, 'older')
})

test('an answer that is ahead of the stream drops nothing that the stream has brought or will bring', () => {
  const thread = new Thread()
  thread.latest([row('a', 1)], null)
  thread.add([row('b', 2)])
  assert.deepEqual(thread.latest([row('e', 5), row('f', 6)], 'older').map(({ id }) => id), ['e', 'f'])
  assert.equal(ids(thread), 'abef')
  assert.equal(thread.cursor, null)
  for (const [index, id] of ['c', 'd', 'e', 'f', 'g'].entries()) thread.add([row(id, 3 + index)])
  assert.equal(ids(thread), 'abcdefg')
})

test('a first answer that is ahead is followed by older pages until they reach what is here', () => {
  const thread = new Thread()
  // Sent before the stream began.
  thread.add([row('b', 2)])
  thread.latest([row('e', 5), row('f', 6)], 'older')
  thread.receive(receipt('f', 7))
  assert.equal(ids(thread), 'bef')
  assert.equal(thread.isCut, true)
  assert.deepEqual(thread.older([row('c', 3), row('d', 4)], 'still older').map(({ id }) => id), ['c', 'd'])
  assert.equal(thread.isCut, true)
  assert.deepEqual(thread.older([row('a', 1), row('b', 2)], 'the rest').map(({ id }) => id), ['a'])
  assert.equal(thread.isCut, false)
  assert.equal(ids(thread), 'abcdef')
})

test('an answer that is behind the stream takes nothing back', () => {
  const thread = new Thread()
  thread.latest([row('a', 1)], null)
  for (const [index, id] of ['b', 'c', 'd'].entries()) thread.add([row(id, 2 + index)])
  thread.remove('c')
  thread.latest([row('a', 1), row('b', 2), row('c', 3)], null)
  assert.equal(ids(thread), 'abd')
})

test('an answer after a gap that reaches what was here is added, and the older ones stay', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2)], 'first')
  thread.older([row('0', 0)], null)
  thread.gap()
  const added = thread.latest([row('b', 2), row('c', 3)], 'second')
  assert.equal(ids(thread), '0abc')
  assert.equal(thread.cursor, null)
  assert.deepEqual(added.map(({ id }) => id), ['c'])
})

test('an answer after a gap that does not reach what was here replaces it, so that nothing is missing in between', () => {
  const thread = new Thread()
  thread.latest([row('a', 1)], null)
  thread.gap()
  thread.latest([row('x', 8), row('y', 9)], 'older')
  assert.equal(ids(thread), 'xy')
  assert.equal(thread.cursor, 'older')
  // It may be a page of those that come then.
  thread.older([row('a', 1)], null)
  assert.equal(ids(thread), 'axy')
})

test('what the stream brings after a gap stays, and is not what the answer has to reach', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2)], null)
  thread.gap()
  thread.add([row('x', 8)])
  // The page has what came after the gap, and nothing of before it.
  thread.latest([row('w', 7), row('x', 8)], 'older')
  thread.receive(receipt('x', 9))
  assert.equal(ids(thread), 'wx')
  assert.equal(thread.isCut, false)
  thread.gap()
  thread.add([row('y', 9)])
  // It is ahead of the stream.
  thread.latest([{ ...row('z', 10), content: 'ahead' }], 'older')
  assert.equal(ids(thread), 'yz')
  assert.equal(thread.isCut, true)
})

test('a gap that is told before the first answer costs nothing', () => {
  const thread = new Thread()
  thread.add([row('a', 1)])
  thread.gap()
  thread.latest([row('b', 2)], null)
  assert.equal(ids(thread), 'ab')
})

test('unread are messages of the team after the receipt', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2, 'visitor'), row('c', 3, 'ai'), row('d', 4, 'system'), row('e', 5)], null)
  assert.equal(thread.unread, 3)
  thread.receive(receipt('a', 6))
  assert.equal(thread.unread, 2)
  assert.equal(thread.newestUnread?.id, 'e')
  thread.receive(receipt('e', 7))
  assert.equal(thread.unread, 0)
  assert.deepEqual([thread.newestUnread], [null])
})

test('receipts never go back, in whatever order they come', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2), row('c', 3)], null)
  thread.receive(receipt('c', 5))
  thread.receive(receipt('a', 6))
  assert.equal(thread.unread, 0)
})

test('a receipt whose message is older than what is loaded leaves all unread, and says that more must be counted', () => {
  const thread = new Thread()
  thread.latest([row('b', 2), row('c', 3)], 'older')
  thread.receive(receipt('a', 9))
  assert.equal(thread.unread, 2)
  assert.equal(thread.isCut, true)
  thread.older([row('a', 1)], null)
  assert.equal(thread.isCut, false)
  assert.equal(thread.unread, 2)
})

test('a receipt whose message was deleted counts by its time', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2), row('c', 5)], null)
  thread.receive(receipt('gone', 3))
  assert.equal(thread.unread, 1)
})

test("an agent's receipt marks the visitor's newest message before it as seen", () => {
  const thread = new Thread()
  thread.latest([row('a', 1, 'visitor'), row('b', 2, 'visitor'), row('c', 3), row('d', 4, 'visitor')], null)
  assert.deepEqual([thread.seen], [null])
  thread.receive(receipt('c', 5, 'agent'))
  assert.equal(thread.seen?.id, 'b')
  thread.receive(receipt('d', 6, 'agent'))
  assert.equal(thread.seen?.id, 'd')
})

test('messages are changed and removed', () => {
  const thread = new Thread()
  thread.latest([row('a', 1), row('b', 2)], null)
  thread.update({ ...row('a', 1), content: 'new' })
  thread.update(row('unknown', 1))
  assert.equal(thread.messages[0]?.content, 'new')
  thread.remove('a')
  assert.equal(ids(thread), 'b')
  assert.equal(thread.messages.length, 1)
})
