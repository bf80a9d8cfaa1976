// The stream and the answers of the API tell of the same rows, and either may be ahead of the other.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { OwnRelay } from '../../clients/relay.js'
import { Link } from '../link.js'
import {
  addMessages, agentClaims, AWAY, DEADLINE_MS, dropSlot, eventually, isLive, isUnread, isWhole, launch, openConversation,
  openDashboard, openInList, relay, rowOf, shownMessages, sql, visitorClaims, writeAs,
} from './support.js'

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 2

/** Holds back answers for a path of the API. `isAsking()` while one waits. */
async function hold(page, ends) {
  let release
  const gate = new Promise((resolve) => { release = resolve })
  let asking = 0
  await page.route((url) => url.pathname.endsWith(ends), async (route) => {
    if (route.request().method() !== 'GET') return route.continue()
    asking += 1
    try {
      const response = await route.fetch()
      await gate
      await route.fulfill({ response })
    } catch {
      // The test is over, and the page is gone; while it runs, the dashboard asks again.
      await route.abort().catch(() => {})
    }
  })
  return { release, isAsking: () => asking > 0 }
}

test('messages that come before the first page, and are not in it, are there', { timeout }, async (t) => {
  const conversation = await openConversation()
  await addMessages(conversation, 3)
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const { release, isAsking } = await hold(page, `/${conversation}/messages`)
  await rowOf(page, conversation).click()
  await eventually(async () => isAsking(), 'the page is asked for')
  for (const content of ['one', 'two', 'three']) await writeAs(visitorClaims(conversation), conversation, content)
  await eventually(async () => /three/.test(await rowOf(page, conversation).textContent()), 'the events are there')
  release()
  await page.locator('.messages[aria-busy=false]').waitFor()
  await isWhole(page, conversation, 'all of them')
  await isUnread(page, conversation, 0)
})

test('events that are ahead of what is drawn do not end the reading at the end', { timeout }, async (t) => {
  const conversation = await openConversation()
  let last = false
  const page = await openDashboard(t, browser, {
    claims: agentClaims(),
    prepare: async (page) => page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => {
      last ||= payload.includes('ahead 200')
    })),
  })
  await openInList(page, conversation)
  await writeAs(visitorClaims(conversation), conversation, 'drawn')
  await isWhole(page, conversation, 'before')
  await page.evaluate(() => {
    const draw = globalThis.requestAnimationFrame
    const waiting = []
    globalThis.requestAnimationFrame = (callback) => waiting.push(callback)
    globalThis.resume = () => {
      globalThis.requestAnimationFrame = draw
      waiting.forEach(draw)
    }
  })
  await addMessages(conversation, 200, `'ahead ' || n`)
  await eventually(async () => last, 'all events have come')
  await page.evaluate(() => {
    document.querySelector('.messages').dispatchEvent(new Event('scroll'))
    globalThis.resume()
  })
  await eventually(async () => (await shownMessages(page)).at(-1) === 'ahead 200' || (await shownMessages(page)).at(-1), 'the last one shows')
})

test('what commits after the lists were read and before the stream begins is there, and counts', { timeout }, async (t) => {
  const [conversation, other, gone] = [await openConversation(), await openConversation(), await openConversation()]
  const link = await Link.to(relay)
  t.after(() => link.close())
  link.hold()
  const page = await openDashboard(t, browser, {
    claims: agentClaims(), at: link.url, path: `#/${conversation}`, waits: false,
  })
  await page.locator('.messages[aria-busy=false]').waitFor()
  for (const one of [other, gone]) await rowOf(page, one).waitFor()
  for (const content of ['one', 'two']) {
    for (const one of [conversation, other]) await writeAs(visitorClaims(one), one, content)
  }
  await sql(`delete from conversations where id = '${gone}'`)
  link.release()
  await isLive(page)
  await isWhole(page, conversation, 'all of them')
  await isUnread(page, other, 2)
  await isUnread(page, conversation, 0)
  await rowOf(page, gone).waitFor({ state: 'detached' })
})

test('a conversation that is deleted while a list is on its way does not come back with it', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  await rowOf(page, conversation).waitFor()
  const { release, isAsking } = await hold(page, '/conversations')
  const filter = page.locator('.filters').getByLabel('Priority')
  await filter.selectOption('high')
  await eventually(async () => isAsking(), 'the list is asked for')
  await sql(`delete from conversations where id = '${conversation}'`)
  // A later event of the same channels.
  const later = await openConversation()
  await rowOf(page, later).waitFor()
  release()
  await page.locator('.rows[aria-busy=false]').waitFor()
  assert.equal(await rowOf(page, conversation).count(), 0)
})

test('a gap: what follows it does not hide that something is missing before', { timeout }, async (t) => {
  const own = await OwnRelay.start(process.env.CAMPFIRE_RELAY_PID, 'dashboard_gap')
  t.after(async () => {
    await own.kill9()
    await dropSlot(own)
  })
  const [conversation, gone] = [await openConversation(), await openConversation()]
  await addMessages(conversation, 30)
  const page = await openDashboard(t, browser, { claims: agentClaims(), at: own.url, allowed: AWAY })
  await openInList(page, conversation)
  await rowOf(page, gone).waitFor()
  await own.kill9()
  await addMessages(conversation, 300, `'gap ' || n`)
  await sql(`delete from conversations where id = '${gone}'`)
  // A relay that no longer has it: its slot is gone.
  await dropSlot(own)
  let release
  const gate = new Promise((resolve) => { release = resolve })
  await page.route((url) => url.pathname.endsWith(`/${conversation}/messages`), async (route) => {
    await gate
    await route.continue()
  })
  await own.run()
  await isLive(page)
  await writeAs(visitorClaims(conversation), conversation, 'after the gap')
  await eventually(async () => (await shownMessages(page)).at(-1) === 'after the gap', 'the stream goes on')
  release()
  await eventually(async () => (await shownMessages(page)).includes('gap 300'), 'the page is there')
  const shown = await shownMessages(page)
  const expected = [...Array.from({ length: 300 }, (_, index) => `gap ${index + 1}`), 'after the gap']
  assert.deepEqual(shown, expected.slice(-shown.length))
  // Nor further up, in what comes as one scrolls.
  await page.locator('.messages').hover()
  await eventually(async () => {
    await page.mouse.wheel(0, -2_000)
    const now = await shownMessages(page)
    const from = expected.indexOf(now[0])
    assert.deepEqual(now, expected.slice(from, from + now.length))
    return now.includes('gap 100')
  }, 'scrolled up')
  await page.locator('.to-end').click()
  await rowOf(page, gone).waitFor({ state: 'detached' })
  await isUnread(page, conversation, 0)
})
