// What the page shows while the relay, the network or the tab is away, and after that.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'
import { OwnRelay } from '../../clients/relay.js'
import { Link } from '../link.js'
import {
  addMessages, agentClaims, AWAY, DEADLINE_MS, dropSlot, eventually, isLive, isUnread, isWhole, launch, openConversation,
  openDashboard, openInList, relay as shared, shoot, shownMessages, sql, visitorClaims, writeAs,
} from './support.js'

let browser
let relay
before(async () => {
  browser = await launch()
  relay = await OwnRelay.start(process.env.CAMPFIRE_RELAY_PID, 'dashboard')
})
after(async () => {
  await browser?.close()
  await relay?.kill9()
  if (relay) await dropSlot(relay)
})

const timeout = DEADLINE_MS * 2
const open = (t, options = {}) =>
  openDashboard(t, browser, { claims: agentClaims(), at: relay.url, allowed: AWAY, ...options })

test('a relay that is killed and started again: nothing is lost or doubled, and unread is right', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const page = await open(t)
  await openInList(page, conversation)
  for (const content of ['before 1', 'before 2']) await writeAs(visitorClaims(conversation), conversation, content)
  await isWhole(page, conversation, 'before')

  await relay.kill9()
  // The agent goes on, and so do visitors.
  for (const content of ['reply 1', 'reply 2']) {
    await page.getByLabel('Reply').fill(content)
    await page.keyboard.press('Enter')
  }
  await page.locator('.connection', { hasText: 'Reconnecting' }).waitFor()
  await shoot(page, 'reconnecting')
  for (const content of ['away 1', 'away 2', 'away 3']) {
    await writeAs(visitorClaims(conversation), conversation, content)
    await writeAs(visitorClaims(other), other, content)
  }
  await relay.run()

  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'the replies are stored')
  await isWhole(page, conversation, 'afterwards')
  assert.equal((await shownMessages(page)).length, 7)
  await isUnread(page, other, 3)
  await isUnread(page, conversation, 0)
  await writeAs(visitorClaims(conversation), conversation, 'after')
  await isWhole(page, conversation, 'what comes then')
})

test('offline and back: what came meanwhile is there, once', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await open(t)
  await openInList(page, conversation)
  await writeAs(visitorClaims(conversation), conversation, 'before')
  await isWhole(page, conversation, 'before')
  await page.context().setOffline(true)
  for (let index = 0; index < 20; index += 1) await writeAs(visitorClaims(conversation), conversation, `away ${index}`)
  await page.getByLabel('Reply').fill('written offline')
  await page.keyboard.press('Enter')
  await page.locator('.message.pending').waitFor()
  await page.context().setOffline(false)
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'the reply is stored')
  await isWhole(page, conversation, 'afterwards')
})

test('a tab that was frozen catches up', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await open(t)
  await openInList(page, conversation)
  const session = await page.context().newCDPSession(page)
  await session.send('Page.setWebLifecycleState', { state: 'frozen' })
  for (let index = 0; index < 10; index += 1) await writeAs(visitorClaims(conversation), conversation, `frozen ${index}`)
  await session.send('Page.setWebLifecycleState', { state: 'active' })
  await isWhole(page, conversation, 'thawed')
})

test('a stream that no longer brings anything, and does not say so, is made anew', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const link = await Link.to(shared)
  t.after(() => link.close())
  const page = await open(t, { at: link.url })
  await openInList(page, conversation)
  await writeAs(visitorClaims(conversation), conversation, 'before')
  await isWhole(page, conversation, 'before')
  await writeAs(visitorClaims(other), other, 'before')
  await isUnread(page, other, 1)
  // Only one way: the relay hears the page, and the page hears nothing on the connections that it has.
  link.mute()
  await page.getByLabel('Reply').fill('into the void')
  await page.keyboard.press('Enter')
  for (const content of ['away 1', 'away 2']) {
    await writeAs(visitorClaims(conversation), conversation, content)
    await writeAs(visitorClaims(other), other, content)
  }
  // Two heartbeats: the first one is not answered.
  await page.locator('.desk[data-live=false]').waitFor({ timeout: DEADLINE_MS })
  await isLive(page)
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'the reply is stored')
  await isWhole(page, conversation, 'afterwards')
  await isUnread(page, other, 3)
  await isUnread(page, conversation, 0)
  await writeAs(visitorClaims(other), other, 'after')
  await isUnread(page, other, 4)
})

test('a page that comes back out of the back-forward cache catches up', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const caching = await chromium.launch({
    executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'], ignoreDefaultArgs: ['--disable-back-forward-cache'],
  })
  t.after(() => caching.close())
  const page = await openDashboard(t, caching, { claims: agentClaims(), allowed: AWAY })
  await openInList(page, conversation)
  for (const one of [conversation, other]) await writeAs(visitorClaims(one), one, 'before')
  await isWhole(page, conversation, 'before')
  await isUnread(page, other, 1)
  await page.evaluate(() => addEventListener('pageshow', ({ persisted }) => Object.assign(globalThis, { persisted })))
  await page.goto(`${shared}/readyz`)
  for (const content of ['away 1', 'away 2']) {
    await writeAs(visitorClaims(conversation), conversation, content)
    await writeAs(visitorClaims(other), other, content)
  }
  // Out of the cache nothing is loaded.
  await page.goBack({ waitUntil: 'commit' })
  await eventually(() => page.evaluate(() => globalThis.persisted === true), 'the page was kept')
  // Nobody reads in a window that is not in front, and a page that comes back need not be.
  await page.bringToFront()
  await isWhole(page, conversation, 'afterwards')
  await isUnread(page, other, 3)
  await isUnread(page, conversation, 0)
  await writeAs(visitorClaims(conversation), conversation, 'after')
  await isWhole(page, conversation, 'what comes then')
})

test('a gap that the relay cannot fill is read from the API', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  await addMessages(conversation, 30)
  const page = await open(t)
  await openInList(page, conversation)
  await relay.kill9()
  // More than a page, and a relay that no longer has it: its slot is gone.
  await addMessages(conversation, 300, `'gap ' || n`)
  await addMessages(other, 3)
  await dropSlot(relay)
  await relay.run()
  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
  await eventually(async () => (await shownMessages(page)).at(-1) === 'gap 300', 'the newest message shows')
  const shown = await shownMessages(page)
  assert.deepEqual(shown, Array.from({ length: shown.length }, (_, index) => `gap ${301 - shown.length + index}`))
  await isUnread(page, other, 3)
  await isUnread(page, conversation, 0)
  await page.reload()
  await page.locator('.messages[aria-busy=false]').waitFor()
  assert.equal(await sql(`select m.content from read_receipts r join messages m on m.id = r.last_read_message_id
    where r.conversation_id = '${conversation}' and r.reader_type = 'agent'`), 'gap 300')
})

test('a conversation that is deleted says so, and leaves the list', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await open(t)
  await openInList(page, conversation)
  await sql(`delete from conversations where id = '${conversation}'`)
  await page.getByText('This conversation was deleted.').waitFor()
  assert.equal(await page.locator(`.row[data-id="${conversation}"]`).count(), 0)
})
