import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bookmark, isPosition, parseReplayReply } from '../src/position.js'

const at = (number: number, tag = 'abcd') =>
  `${tag}.00000001.${number.toString(16).padStart(16, '0')}.00000000`

/** A row event comes; says whether it was new. */
function receive(bookmark: Bookmark, position: string, isReplayed = false): boolean {
  const isNew = !bookmark.hasSeen(position)
  bookmark.received(isReplayed, true)
  if (isNew) bookmark.delivered(position)
  return isNew
}

function joined(position: string | null, count: number, head: number, complete = true): Bookmark {
  const bookmark = new Bookmark(position)
  bookmark.joined({ complete, position: at(head), count })
  return bookmark
}

test('the first join asks for a position, and gets it from the reply', () => {
  const bookmark = new Bookmark()
  assert.deepEqual(bookmark.replay, {})
  bookmark.joined({ complete: true, position: at(5), count: 0 })
  assert.deepEqual(bookmark.replay, { after: at(5) })
  assert.ok(bookmark.isCaughtUp)
})

test('row events move the position, and the same one again is known', () => {
  const bookmark = joined(null, 0, 5)
  assert.ok(receive(bookmark, at(6)))
  assert.ok(!receive(bookmark, at(6)))
  assert.ok(!receive(bookmark, at(4)))
  assert.equal(bookmark.position, at(6))
})

test("the reply's position counts only once all replayed events came", () => {
  const bookmark = joined(at(1), 2, 9)
  assert.equal(bookmark.position, at(1))
  receive(bookmark, at(3), true)
  assert.equal(bookmark.position, at(3))
  assert.ok(!bookmark.isCaughtUp)
  receive(bookmark, at(4), true)
  assert.equal(bookmark.position, at(9))
  assert.ok(bookmark.isCaughtUp)
})

test('a replay that is cut is asked for again from where it got to', () => {
  const bookmark = joined(at(1), 2, 9)
  receive(bookmark, at(3), true)
  bookmark.left()
  assert.deepEqual(bookmark.replay, { after: at(3) })
  bookmark.heartbeat(at(12))
  assert.deepEqual(bookmark.replay, { after: at(3) })
})

test('a replayed event that is known counts as one that came', () => {
  const bookmark = joined(at(4), 2, 9)
  assert.ok(!receive(bookmark, at(4), true))
  assert.ok(receive(bookmark, at(5), true))
  assert.equal(bookmark.position, at(9))
})

test('events without a position count for a replay, and move nothing', () => {
  const bookmark = joined(at(1), 1, 9)
  bookmark.received(false, false)
  assert.equal(bookmark.position, at(1))
  bookmark.received(true, false)
  assert.equal(bookmark.position, at(9))
})

test('a live row event ends a replay whose rest has left the window', () => {
  const bookmark = joined(at(1), 5, 9)
  receive(bookmark, at(3), true)
  receive(bookmark, at(11))
  assert.ok(bookmark.isCaughtUp)
  assert.equal(bookmark.position, at(11))
})

test("a heartbeat moves a channel that has caught up, and never back", () => {
  const bookmark = joined(at(1), 1, 9)
  bookmark.heartbeat(at(12))
  assert.equal(bookmark.position, at(1))
  receive(bookmark, at(3), true)
  bookmark.heartbeat(at(12))
  assert.equal(bookmark.position, at(12))
  bookmark.heartbeat(at(10))
  assert.equal(bookmark.position, at(12))
})

test('after an incomplete join nothing is dropped, and the position may go back', () => {
  const bookmark = joined(at(100), 0, 7, false)
  assert.equal(bookmark.position, at(7))
  assert.ok(receive(bookmark, at(8)))
  assert.equal(bookmark.position, at(8))
})

test('an incomplete join that is cut asks from the old position, to be told again', () => {
  const bookmark = joined(at(100), 1, 7, false)
  bookmark.left()
  assert.deepEqual(bookmark.replay, { after: at(100) })
})

test('what was announced as missing is not asked for again', () => {
  const bookmark = joined(at(3), 2, 9, false)
  bookmark.announced(at(6), true)
  assert.deepEqual(bookmark.replay, { after: at(6) })
  assert.ok(!bookmark.isCaughtUp)
  receive(bookmark, at(7), true)
  receive(bookmark, at(8), true)
  assert.equal(bookmark.position, at(9))
  bookmark.announced(at(20), false)
  bookmark.left()
  assert.deepEqual(bookmark.replay, { after: at(20) })
})

test('a loss within a replay ends the wait for all of it', () => {
  const bookmark = joined(at(1), 5, 9)
  receive(bookmark, at(2), true)
  bookmark.announced(at(6), false)
  assert.equal(bookmark.position, at(6))
  receive(bookmark, at(7), true)
  bookmark.heartbeat(at(12))
  assert.equal(bookmark.position, at(12))
})

test('after a loss the log may be another one, and shorter', () => {
  const bookmark = joined(at(100), 0, 100)
  bookmark.announced(at(7), false)
  assert.ok(receive(bookmark, at(8)))
  assert.equal(bookmark.position, at(8))
})

test('what follows the rows of a snapshot counts only with all of it', () => {
  const cut = new Bookmark()
  cut.joined({ complete: true, position: at(9), count: 3 }, true)
  cut.received(true, false)
  receive(cut, at(4), true)
  assert.equal(cut.position, null)
  cut.left()
  assert.equal(cut.position, null)
  cut.joined({ complete: true, position: at(9), count: 1 }, true)
  receive(cut, at(8), true)
  assert.equal(cut.position, at(9))
  receive(cut, at(10))
  assert.equal(cut.position, at(10))
})

test('a live row event ends a snapshot too, and is known then', () => {
  const bookmark = new Bookmark()
  bookmark.joined({ complete: true, position: at(9), count: 3 }, true)
  receive(bookmark, at(11))
  assert.equal(bookmark.position, at(11))
  assert.ok(!receive(bookmark, at(11)))
})

test('what is forgotten is asked for from the beginning', () => {
  const bookmark = joined(at(1), 0, 9)
  bookmark.forget()
  assert.equal(bookmark.position, null)
  assert.ok(!bookmark.isCaughtUp)
  assert.ok(!bookmark.hasSeen(at(2)))
})

test('positions of another database are never known ones', () => {
  const bookmark = joined(at(9, 'ffff'), 0, 2, false)
  assert.ok(receive(bookmark, at(3)))
  assert.ok(!bookmark.hasSeen(at(1, '0000')))
})

test('a later timeline is after an earlier one, whatever its LSN', () => {
  const bookmark = joined(at(100), 0, 100)
  assert.ok(!bookmark.hasSeen('abcd.00000002.0000000000000001.00000000'))
})

test('what is no position is not taken for one', () => {
  assert.ok(isPosition(at(1)))
  for (const text of ['', 'nonsense', at(1).toUpperCase(), `${at(1)}0`, null, 7, '0b6f4d4e-1111-4000-8000-000000000000']) {
    assert.ok(!isPosition(text), String(text))
  }
})

test('a join reply without a usable replay is none', () => {
  assert.deepEqual(
    parseReplayReply({ replay: { complete: true, position: at(1), count: 2 } }),
    { complete: true, position: at(1), count: 2 },
  )
  for (const response of [null, {}, { replay: {} }, { replay: { complete: true, position: 'x', count: 0 } }]) {
    assert.equal(parseReplayReply(response), null)
  }
})
