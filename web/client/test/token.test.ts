import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { delay } from '../src/backoff.js'
import { expiryOf, moment, REFRESH_BEFORE_EXPIRY_MS, refreshAt, TokenKeeper } from '../src/token.js'

const MINUTE = 60_000

function token(claims: object): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${encode({ alg: 'HS256' })}.${encode(claims)}.signature`
}

/** Lives as long as said, from the clock's now on; no two are alike. */
let serial = 0
const living = (ms: number) => token({ exp: (Date.now() + ms) / 1000, jti: (serial += 1) })

/** A keeper on a clock that the test moves; its tokens live as long as `lives` says, in order. */
function keeper(t: TestContext, lives: (number | Error)[]) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 })
  const got: string[] = []
  const refreshed: number[] = []
  const keeper = new TokenKeeper(async () => {
    const life = lives.shift()
    if (life === undefined) throw new Error('asked too often')
    if (life instanceof Error) throw life
    got.push(living(life))
    return got.at(-1)!
  }, () => refreshed.push(Date.now()))
  t.after(() => keeper.close())
  const pass = async (ms: number) => {
    t.mock.timers.tick(ms)
    // What a timer began goes on in microtasks, which no mock holds back.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { keeper, got, refreshed, pass }
}

test('exp is read from a token, whatever letters its claims have', () => {
  assert.equal(expiryOf(token({ exp: 1_700_000_000, name: 'Zoë ~ ÿ 👋 ???>>>' })), 1_700_000_000_000)
  assert.equal(expiryOf(token({ name: 'Ada' })), null)
  assert.equal(expiryOf(token({ exp: 'soon' })), null)
  for (const text of ['', 'sb_publishable_x', 'a.b.c', 'a.!.c']) assert.equal(expiryOf(text), null, text)
})

test('a token is replaced at least a minute before it expires, a short one at half its life', () => {
  const now = 1_000_000
  assert.ok(REFRESH_BEFORE_EXPIRY_MS >= MINUTE)
  assert.equal(refreshAt(now + 60 * MINUTE, now), now + 58 * MINUTE)
  assert.equal(refreshAt(now + 10_000, now), now + 5_000)
  assert.equal(refreshAt(now - 1, now), now - 1)
  assert.equal(refreshAt(null, now), Infinity)
})

test('the token is fetched once, and again in time', async (t) => {
  const { keeper: tokens, got, refreshed, pass } = keeper(t, [60 * MINUTE, 60 * MINUTE])
  assert.equal(await tokens.current(), await tokens.current())
  await pass(57 * MINUTE)
  assert.equal(got.length, 1)
  await pass(1 * MINUTE)
  assert.equal(got.length, 2)
  assert.equal(refreshed.length, 1)
  assert.equal(await tokens.current(), got[1])
})

test('calls at the same time share one token', async (t) => {
  const { keeper: tokens, got } = keeper(t, [60 * MINUTE])
  await Promise.all([tokens.current(), tokens.current(), tokens.current()])
  assert.equal(got.length, 1)
})

test('a refused token is replaced, once for all who were refused, however fast or wrong the clock', async (t) => {
  for (const passes of [1_000, 0, -1_000]) {
    let now = 5_000
    t.mock.method(performance, 'now', () => now)
    const { keeper: tokens, got } = keeper(t, [60 * MINUTE, 60 * MINUTE])
    await tokens.current()
    now += passes
    const [first, second] = [moment(), moment()]
    now += passes
    await tokens.current(first)
    await tokens.current(second)
    await tokens.current(first)
    assert.equal(got.length, 2, `the clock moved by ${passes} ms`)
    t.mock.reset()
  }
})

test('a failure is tried again, more and more slowly, and the old token serves meanwhile', async (t) => {
  const down = new Error('down')
  const { keeper: tokens, got, refreshed, pass } = keeper(t, [10 * MINUTE, down, down, 10 * MINUTE])
  const first = await tokens.current()
  await pass(8 * MINUTE) // fails
  assert.equal(await tokens.current(), first)
  await pass(2_000) // fails again; the wait was between one second and two
  assert.equal(got.length, 1)
  await pass(4_000)
  assert.equal(got.length, 2)
  assert.equal(refreshed.length, 1)
})

test('tokens that come expired are not asked for in a loop', async (t) => {
  const lives = Array.from({ length: 100 }, () => -1)
  const { keeper: tokens, got, pass } = keeper(t, lives)
  await tokens.current()
  for (let second = 0; second < 60; second += 1) await pass(1_000)
  assert.ok(got.length > 2 && got.length <= 8, `${got.length} in a minute`)
})

test('a token that does not expire is kept', async (t) => {
  const { keeper: tokens, got, pass } = keeper(t, [Infinity])
  await tokens.current()
  await pass(24 * 60 * MINUTE)
  await tokens.current()
  assert.equal(got.length, 1)
})

test('waits double from one second to thirty, spread over a whole step', () => {
  const backoff = { minMs: 1_000, maxMs: 30_000 }
  assert.equal(delay(0, backoff, () => 0), 1_000)
  assert.equal(delay(0, backoff, () => 0.5), 1_500)
  assert.equal(delay(3, backoff, () => 0), 8_000)
  assert.equal(delay(5, backoff, () => 0), 30_000)
  assert.equal(delay(5_000, backoff, () => 1), 30_000)
})
