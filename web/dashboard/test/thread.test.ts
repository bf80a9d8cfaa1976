import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Message } from '../src/rows.js'
import { Thread, WINDOW } from '../src/thread.js'

function message(number: number, id = `m${String(number).padStart(6, '0')}`): Message {
  return {
    id, conversation_id: 'c', organization_id: 'o', content: id, sender_type: 'visitor', sender_name: null,
    created_at: `2026-11-28T00:00:00.${String(number).padStart(6, '0')}Z`,
  }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => message(from + index))
const numbers = (messages: readonly Message[]) => messages.map(({ id }) => Number(id.slice(1)))

test('the window is the newest messages, and follows what comes', () => {
  const thread = new Thread('c')
  thread.addNewest(range(1000, 1080), 'older')
  for (const next of range(1080, 1100)) thread.add(next)
  assert.equal(thread.window.length, WINDOW)
  assert.equal(numbers(thread.window).at(-1), 1099)
  assert.ok(thread.reachesEnd && thread.hasOlder)
})

test('whoever reads further up keeps that place, whatever comes', () => {
  const thread = new Thread('c')
  thread.addNewest(range(1000, 1080), 'older')
  thread.addOlder(range(800, 1000), 'older still')
  assert.equal(numbers(thread.window)[0], 1000)
  assert.ok(thread.showOlder())
  const before = numbers(thread.window)
  assert.equal(before[0], 970)
  for (const next of range(1080, 1300)) thread.add(next)
  thread.addOlder(range(600, 800), null)
  // One that committed late.
  thread.add(message(700, 'm000700x'))
  assert.deepEqual(numbers(thread.window), before)
  assert.ok(!thread.reachesEnd)
  for (let step = 0; step < 20; step += 1) thread.showNewer()
  assert.equal(numbers(thread.window).at(-1), 1299)
  thread.follow(true)
  thread.add(message(1300))
  assert.equal(numbers(thread.window).at(-1), 1300)
})

test('an older page is shown by moving the window over it, to the very beginning', () => {
  const thread = new Thread('c')
  thread.addNewest(range(200, 280), 'older')
  assert.equal(thread.showOlder(), false)
  thread.addOlder(range(0, 200), null)
  while (thread.showOlder());
  assert.equal(numbers(thread.window)[0], 0)
  assert.equal(thread.hasOlder, false)
})

test('a window at the end that is not full takes what an older page brings', () => {
  const thread = new Thread('c')
  thread.addNewest(range(200, 210), 'older')
  thread.addOlder(range(0, 200), null)
  assert.deepEqual(numbers(thread.window), numbers(range(130, 210)))
  assert.ok(thread.follows)
})

test('a message that comes on two channels, in an answer and in a page is there once', () => {
  const thread = new Thread('c')
  thread.add(message(5))
  assert.equal(thread.window.length, 0, 'nothing shows before the first page')
  thread.addNewest(range(0, 10), null)
  thread.add(message(9))
  thread.add(message(10))
  thread.addNewest(range(5, 11), 'wrong')
  assert.deepEqual(numbers(thread.messages), numbers(range(0, 11)))
  assert.equal(thread.cursor, null)
})

test('messages are in the order of their times, also those that come late', () => {
  const thread = new Thread('c')
  thread.addNewest([message(10), message(30)], null)
  for (const number of [20, 5, 40, 25]) thread.add(message(number))
  assert.deepEqual(numbers(thread.messages), [5, 10, 20, 25, 30, 40])
})

test('what is older than all pages comes with its page', () => {
  const thread = new Thread('c')
  thread.addNewest(range(100, 180), 'older')
  thread.add(message(50))
  assert.equal(numbers(thread.messages)[0], 100)
  thread.addOlder([...range(40, 100)], null)
  assert.equal(numbers(thread.messages).filter((number) => number === 50).length, 1)
})

test('events that are faster than the first page are not lost, whichever of the two is ahead', () => {
  const behind = new Thread('c')
  for (const next of range(8, 12)) behind.add(next)
  behind.addNewest(range(0, 10), null)
  assert.deepEqual(numbers(behind.messages), numbers(range(0, 12)))

  const ahead = new Thread('c')
  for (const next of range(100, 110)) ahead.add(next)
  ahead.addNewest(range(200, 280), 'older')
  for (const next of range(110, 300)) ahead.add(next)
  assert.deepEqual(numbers(ahead.messages), numbers(range(200, 300)), 'the others come with older pages')
  ahead.addOlder(range(0, 200), null)
  assert.deepEqual(numbers(ahead.messages), numbers(range(0, 300)))
})

test('a newest page without a gap drops nothing, however far it is ahead', () => {
  const thread = new Thread('c')
  thread.addNewest(range(0, 80), null)
  thread.addNewest(range(300, 380), 'older')
  for (const next of range(80, 400)) thread.add(next)
  assert.deepEqual(numbers(thread.messages), numbers(range(0, 400)))
  assert.equal(thread.cursor, null)
})

test('after a gap there is no hole: what is not connected is read again from the newest page', () => {
  const thread = new Thread('c')
  thread.addNewest(range(0, 80), null)
  thread.gap()
  thread.addNewest(range(300, 380), 'older')
  assert.deepEqual(numbers(thread.messages), numbers(range(300, 380)))
  assert.equal(thread.cursor, 'older')
  // A page that overlaps continues what is known.
  thread.gap()
  thread.addNewest(range(350, 430), 'newer cursor')
  assert.deepEqual(numbers(thread.messages), numbers(range(300, 430)))
  assert.equal(thread.cursor, 'older')
})

test('what comes after a gap stays, and does not connect the page with what was known before', () => {
  const thread = new Thread('c')
  thread.addNewest(range(0, 80), null)
  thread.gap()
  for (const next of range(370, 385)) thread.add(next)
  thread.addNewest(range(300, 380), 'older')
  assert.deepEqual(numbers(thread.messages), numbers(range(300, 385)))
  assert.equal(thread.cursor, 'older')
  thread.addOlder(range(100, 300), 'older still')
  thread.addOlder(range(0, 100), null)
  assert.deepEqual(numbers(thread.messages), numbers(range(0, 385)))
})

test('the visitor’s mark goes forward only, and covers what is older', () => {
  const thread = new Thread('c')
  thread.addNewest(range(0, 5), null)
  const read = (number: number, read_at: string) => thread.addReceipt({
    conversation_id: 'c', reader_type: 'visitor', last_read_message_id: message(number).id, read_at,
  })
  read(3, '2026-11-28T01:00:00.000000Z')
  read(1, '2026-11-28T00:30:00.000000Z')
  assert.deepEqual(thread.messages.map((one) => thread.isReadByVisitor(one)), [true, true, true, true, false])
  thread.addReceipt({
    conversation_id: 'c', reader_type: 'agent', last_read_message_id: message(4).id, read_at: '2026-11-28T02:00:00.000000Z',
  })
  assert.equal(thread.isReadByVisitor(message(4)), false)
})

test('ten thousand messages, one by one and by pages, cost little', () => {
  const thread = new Thread('c')
  const started = performance.now()
  thread.addNewest(range(9_920, 10_000), 'older')
  for (let from = 9_720; from >= 0; from -= 200) thread.addOlder(range(from, from + 200), from > 0 ? 'older' : null)
  for (const next of range(10_000, 20_000)) thread.add(next)
  assert.equal(thread.messages.length, 20_000 - 120)
  assert.ok(performance.now() - started < 2_000)
})
