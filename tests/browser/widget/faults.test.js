// What goes wrong around a conversation: relays, typists and networks that die, and laptops that sleep.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { Link } from '../link.js'
import {
  answer, converse, DEADLINE_MS, launch, newVisitor, organization, ownRelay, relay, sql, stored,
} from './support.js'

const LIMIT = { timeout: 400_000 }

let browser
before(async () => {
  browser = await launch()
})
after(() => browser?.close())

async function begin(t, at, from = browser) {
  const { tab } = await converse(t, await newVisitor(t, from), at)
  return { tab, conversation: await tab.conversation() }
}

test('the relay is killed in mid-conversation and started again: nothing is lost or doubled', LIMIT, async (t) => {
  const own = await ownRelay(t, 'killed')
  const { tab, conversation } = await begin(t, own.url)
  await answer(conversation, 'one')
  await tab.shows('hello', 'one')
  await own.kill9()
  await tab.until(() => tab.events('connection'), (states) => states.at(-1).state === 'reconnecting', 'lost')
  await answer(conversation, 'two')
  await tab.say('three')
  await answer(conversation, 'four')
  await own.run()
  await tab.sent()
  await tab.connected()
  await answer(conversation, 'five')
  const all = await stored(conversation)
  assert.deepEqual([...all].sort(), ['five', 'four', 'hello', 'one', 'three', 'two'])
  await tab.shows(...all)
  assert.equal((await tab.events('message')).length, 6, 'the page was told of each once')
})

test('a typing bubble goes when the typist is killed, and then nobody is online', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  const typist = spawn(process.execPath, [fileURLToPath(new URL('typist.js', import.meta.url)), conversation], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => typist.kill('SIGKILL'))
  let typed = 0
  typist.stdout.setEncoding('utf8').on('data', (text) => { typed += text.split('\n').length - 1 })
  const bubble = tab.widget.locator('.typing .dots')
  await bubble.waitFor({ timeout: DEADLINE_MS })
  await tab.widget.locator('.online .presence', { hasText: 'We are online' }).waitFor()
  assert.match(await tab.widget.locator('.typing').textContent(), /is typing/)
  // It is renewed once a second, and stays beyond the time that it has without that.
  const before = typed
  await tab.until(async () => typed, (count) => count >= before + 7, 'typed')
  await bubble.waitFor({ timeout: DEADLINE_MS })
  const killedAt = Date.now()
  typist.kill('SIGKILL')
  await bubble.waitFor({ state: 'detached', timeout: DEADLINE_MS })
  // Six seconds are promised; a busy machine has as many again.
  assert.ok(Date.now() - killedAt < 12_000, `${Date.now() - killedAt} ms`)
  await tab.widget.locator('.panel:not(.online) .presence', { hasText: 'We reply as soon as we can' }).waitFor()
})

test('a typing bubble goes when the relay is killed', LIMIT, async (t) => {
  const own = await ownRelay(t, 'typing')
  const { tab, conversation } = await begin(t, own.url)
  const typist = spawn(process.execPath, [fileURLToPath(new URL('typist.js', import.meta.url)), conversation], {
    stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, CAMPFIRE_RELAY: own.url },
  })
  t.after(() => typist.kill('SIGKILL'))
  const bubble = tab.widget.locator('.typing .dots')
  await bubble.waitFor({ timeout: DEADLINE_MS })
  await own.kill9()
  await bubble.waitFor({ state: 'detached', timeout: DEADLINE_MS })
  typist.kill('SIGKILL')
  await own.run()
})

test('a stream that no longer answers is said to be slow, and made anew', LIMIT, async (t) => {
  const link = await Link.to(relay)
  t.after(() => link.close())
  const { tab, conversation } = await begin(t, link.url)
  link.mute()
  await answer(conversation, 'into the void')
  await tab.until(() => tab.events('connection'), (states) => states.some(({ state }) => state === 'stale'), 'stale')
  await tab.widget.locator('.hint.shown').waitFor()
  await tab.shows('hello', 'into the void')
  await tab.connected()
})

/** A process and all that it started. */
function family(pid) {
  const parents = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      return [[Number(name), Number(readFileSync(`/proc/${name}/stat`, 'utf8').replace(/^.*\) \S /, '').split(' ')[0])]]
    } catch {
      return [] // It has ended.
    }
  })
  const members = [pid]
  for (const member of members) for (const [child, parent] of parents) if (parent === member) members.push(child)
  return members
}

test('a laptop sleeps until its token has expired: what was said meanwhile is there when it wakes', LIMIT, async (t) => {
  const own = await ownRelay(t, 'asleep', { CAMPFIRE_VISITOR_TOKEN_SECONDS: '20' })
  const server = await chromium.launchServer({ executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'] })
  t.after(() => server.close())
  const laptop = await chromium.connect(server.wsEndpoint())
  const { tab, conversation } = await begin(t, own.url, laptop)
  const { token } = await tab.kept()
  const { exp } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString())
  const asleep = family(server.process().pid)
  for (const pid of asleep) process.kill(pid, 'SIGSTOP')
  t.after(() => {
    for (const pid of asleep) {
      try {
        process.kill(pid, 'SIGCONT')
      } catch {} // It has ended.
    }
  })
  // Until the relay, too, has closed the channel of a token that is too old.
  await sleep(exp * 1_000 + 2_000 - Date.now())
  await answer(conversation, 'good morning')
  for (const pid of asleep) process.kill(pid, 'SIGCONT')
  await tab.shows('hello', 'good morning')
  await tab.say('I overslept')
  await tab.sent()
  assert.notEqual((await tab.kept()).token, token)
  assert.deepEqual(await stored(conversation), ['hello', 'good morning', 'I overslept'])
  await tab.shows('hello', 'good morning', 'I overslept')
})

test('a page that comes back out of the back-forward cache catches up', LIMIT, async (t) => {
  const caching = await chromium.launch({
    executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'], ignoreDefaultArgs: ['--disable-back-forward-cache'],
  })
  t.after(() => caching.close())
  const { tab, conversation } = await begin(t, undefined, caching)
  await tab.page.evaluate(() => addEventListener('pageshow', ({ persisted }) => Object.assign(globalThis, { persisted })))
  await tab.page.goto('about:blank')
  await answer(conversation, 'while you were away')
  // Out of the cache nothing is loaded.
  await tab.page.goBack({ waitUntil: 'commit' })
  await tab.until(() => tab.page.evaluate(() => globalThis.persisted), (persisted) => persisted === true, 'the page was kept')
  await tab.shows('hello', 'while you were away')
  await tab.say('back again')
  await tab.sent()
  await tab.shows('hello', 'while you were away', 'back again')
})

test('a tab that was frozen catches up', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  await tab.call('close')
  const session = await tab.page.context().newCDPSession(tab.page)
  await session.send('Page.setWebLifecycleState', { state: 'frozen' })
  await answer(conversation, 'one')
  await answer(conversation, 'two')
  await session.send('Page.setWebLifecycleState', { state: 'active' })
  await tab.until(() => tab.unread(), (count) => count === 2, 'two unread')
  await tab.open()
  await tab.shows('hello', 'one', 'two')
  await tab.until(() => tab.unread(), (count) => count === 0, 'read')
})

const insert = (text, from = '') => `insert into messages (organization_id, conversation_id, content, sender_type, created_at)
  select '${organization}', id, ${text}, 'agent', clock_timestamp() from conversations ${from}`

for (const [name, count, statement] of [
  ['500 messages in a burst of transactions', 500, (conversation) =>
    `do $$ begin for n in 1..500 loop ${insert(`'burst ' || n`, `where id = '${conversation}'`)}; commit; end loop; end $$`],
  ['5,000 messages in one transaction', 5_000, (conversation) =>
    insert(`'burst ' || n`, `, generate_series(1, 5000) n where id = '${conversation}' order by n`)],
]) {
  test(`${name}: each is shown once, in order`, LIMIT, async (t) => {
    const { tab, conversation } = await begin(t)
    await tab.page.evaluate(() => {
      globalThis.longest = 0
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) globalThis.longest = Math.max(longest, duration)
      }).observe({ type: 'longtask' })
    })
    const began = Date.now()
    await sql(statement(conversation))
    const written = Date.now()
    await tab.until(() => tab.widget.locator('.bubble').count(), (bubbles) => bubbles === count + 1, 'all')
    t.diagnostic(`written in ${written - began} ms, shown ${Date.now() - written} ms later; longest task ${await tab.page.evaluate(() => longest)} ms`)
    assert.deepEqual(await tab.bubbles(), ['hello', ...Array.from({ length: count }, (_, n) => `burst ${n + 1}`)])
    assert.equal((await tab.events('message')).length, count + 1)
    await tab.until(() => tab.unread(), (unread) => unread === 0, 'read, since the panel is open')
  })
}
