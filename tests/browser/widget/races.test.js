// The stream and the answers of the API tell of the same messages, and either may be ahead of the other.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Link } from '../link.js'
import {
  answer, converse, dropSlot, launch, newVisitor, openSite, organization, ownRelay, relay, sql, stored, Tab,
} from './support.js'

const LIMIT = { timeout: 400_000 }

let browser
before(async () => {
  browser = await launch()
})
after(() => browser?.close())

const write = (conversation, first, last) => sql(`insert into messages
  (organization_id, conversation_id, content, sender_type, created_at)
  select '${organization}', '${conversation}', 'burst ' || n, 'agent', clock_timestamp() from generate_series(${first}, ${last}) n`)

const burst = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => `burst ${first + index}`)

/**
 * A visitor whose lists of messages are held back: before the relay hears of them, or once it has `answered`.
 * `isAsking()` while one is on its way.
 */
async function newPatient(t, { answered = false } = {}) {
  const context = await newVisitor(t, browser)
  let open
  const gate = new Promise((resolve) => { open = resolve })
  let asking = 0
  await context.route('**/api/widget/messages?*', async (route) => {
    asking += 1
    try {
      if (!answered) await gate
      const response = await route.fetch()
      await gate
      await route.fulfill({ response })
    } catch {
      // The test is over, and the page or the link is gone; while it runs, the widget asks again.
      await route.abort().catch(() => {})
    } finally {
      asking -= 1
    }
  })
  return { context, release: open, isAsking: () => asking > 0 }
}

/** Between a page and the relay; what is left of it goes with the test. */
async function newLink(t) {
  const link = await Link.to(relay)
  t.after(() => link.close())
  return link
}

/** That each message is shown once, in order, and that the page was told of each once. */
async function isWhole(tab, texts) {
  await tab.shows(...texts)
  const told = (await tab.events('message')).map(({ content }) => content)
  assert.deepEqual([...told].sort(), [...texts].sort())
}

test('a first list that is ahead of the stream: each message shows once, and is told of once', LIMIT, async (t) => {
  const link = await newLink(t)
  const { context, release } = await newPatient(t)
  const { tab } = await converse(t, context, link.url)
  const conversation = await tab.conversation()
  link.hold()
  await write(conversation, 1, 300)
  release()
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.includes('burst 300'), 'the list is there')
  link.release()
  await isWhole(tab, ['hello', ...burst(1, 300)])
})

test('a first list that is behind the stream, and slow: nothing that the stream has brought is dropped', LIMIT, async (t) => {
  const link = await newLink(t)
  const { context, release, isAsking } = await newPatient(t, { answered: true })
  const { tab } = await converse(t, context, link.url)
  const conversation = await tab.conversation()
  await tab.until(async () => isAsking(), (asks) => asks, 'the list is asked for')
  // Timers of one length fire in turn: after this one, the widget has waited as long as it does without a stream.
  await tab.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 2_000)))
  await write(conversation, 1, 300)
  await tab.shows('hello', ...burst(1, 300))
  await tab.until(() => sql(`select m.content from read_receipts r join messages m on m.id = r.last_read_message_id
    where r.conversation_id = '${conversation}' and r.reader_type = 'visitor'`), (content) => content === 'burst 300', 'read')
  link.hold()
  await write(conversation, 301, 500)
  release()
  await tab.widget.locator('.scroll:not(.loading)').waitFor()
  // Whatever it asks for then is answered while the stream is held.
  await tab.until(async () => isAsking(), (asks) => !asks, 'all lists are there')
  link.release()
  await isWhole(tab, ['hello', ...burst(1, 500)])
})

test('a list that was fetched for want of a stream: what came between it and the stream is there', LIMIT, async (t) => {
  const link = await newLink(t)
  link.hold()
  const tab = await Tab.open(t, await newVisitor(t, browser), await openSite(t, { at: link.url }))
  await tab.open()
  const listed = tab.page.waitForResponse('**/api/widget/messages?*')
  await tab.say('hello')
  await tab.sent()
  await (await listed).finished()
  await tab.widget.locator('.scroll:not(.loading)').waitFor()
  const conversation = await tab.conversation()
  await answer(conversation, 'between')
  link.release()
  await tab.connected()
  await tab.shows('hello', 'between')
  await answer(conversation, 'after')
  await isWhole(tab, ['hello', 'between', 'after'])
})

test('a gap: what follows it does not hide that something is missing before', LIMIT, async (t) => {
  const own = await ownRelay(t, 'gap')
  const { tab } = await converse(t, await newVisitor(t, browser), own.url)
  const conversation = await tab.conversation()
  await own.kill9()
  await write(conversation, 1, 60)
  // A relay that no longer has it: its slot is gone.
  await dropSlot(own)
  let release
  const gate = new Promise((resolve) => { release = resolve })
  await tab.page.route('**/api/widget/messages?*', async (route) => {
    await gate
    await route.continue()
  })
  const asked = tab.page.waitForRequest('**/api/widget/messages?*')
  await own.run()
  await asked
  await answer(conversation, 'after the gap')
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.at(-1) === 'after the gap', 'the stream goes on')
  release()
  const all = await stored(conversation)
  assert.equal(all.length, 62)
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.includes('burst 60'), 'the list is there')
  await tab.until(() => tab.bubbles(), (bubbles) => JSON.stringify(bubbles) === JSON.stringify(all.slice(-bubbles.length)), 'no hole')
  const earlier = tab.widget.locator('.earlier')
  await tab.until(async () => {
    if (await earlier.isVisible()) await earlier.click({ timeout: 1_000 }).catch(() => {})
    return tab.bubbles()
  }, (bubbles) => JSON.stringify(bubbles) === JSON.stringify(all), 'all of it')
  assert.equal((await tab.events('message')).filter(({ content }) => content === 'after the gap').length, 1)
})
