// Whether the visitor is there: the widget on a customer's page, and what an agent is shown of it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { OwnRelay } from '../../clients/relay.js'
import { newVisitor, openSite, Tab } from '../widget/support.js'
import { addAgent, agentClaims, claimsOf, DEADLINE_MS, eventually, launch, openDashboard, openInList, shoot, sql } from './support.js'

let browser
/** The second test's own. */
let relay
before(async () => { browser = await launch() })
after(async () => {
  await browser?.close()
  await relay?.kill9()
  await sql(`select pg_drop_replication_slot('campfire_background')`).catch(() => {})
})

const timeout = DEADLINE_MS * 2

const whereabouts = (page) => page.locator('.whereabouts').textContent()
const is = (page, text) => eventually(async () => (await whereabouts(page)) === text || (await whereabouts(page)), text)

/** From now on, notes all that the page says of the visitor. */
const note = (page) => page.evaluate(() => {
  globalThis.said = []
  const look = () => {
    const text = document.querySelector('.whereabouts')?.textContent
    if (text !== said.at(-1)) said.push(text)
  }
  look()
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true })
})

/** A visitor's page with a conversation, and the agent's page that has it open. */
async function both(t, { at, context, prepare } = {}) {
  const url = await openSite(t, { ...(at && { at }) })
  const tab = await Tab.open(t, context ?? await newVisitor(t, browser), url)
  await tab.open()
  await tab.say('Is anybody there?')
  await tab.sent()
  await tab.connected()
  const page = await openDashboard(t, browser, { claims: agentClaims(), ...(at && { at }), ...(prepare && { prepare }) })
  await openInList(page, await tab.conversation())
  return { tab, page, url }
}

test('an agent sees whether the visitor is there, from one page of the site to the next', { timeout }, async (t) => {
  const { tab, page, url } = await both(t)
  await is(page, 'Online')
  assert.equal(await page.locator('.conversation .bar .dot').count(), 1)
  assert.equal(await page.locator('.viewers').count(), 0, 'the visitor is no agent who views')
  await shoot(page, 'visitor-online')
  await note(page)
  for (let visited = 0; visited < 3; visited += 1) {
    await tab.page.goto(`${url}/?page=${visited}`)
    await tab.happened('ready')
    await tab.connected()
  }
  // A second tab, and the first one closes.
  const other = await Tab.open(t, tab.page.context(), url)
  await other.connected()
  await tab.page.close()
  // Longer than the grace.
  await sleep(8_000)
  assert.deepEqual(await page.evaluate(() => said), ['Online'])
  await other.page.close()
  await is(page, 'Offline')
  assert.equal(await page.locator('.conversation .bar .dot').count(), 0)
  await shoot(page, 'visitor-offline')
})

/** How long a minute is to a page: everything is 60 / 9 times as fast as by default. */
const MINUTE_MS = 9_000

/**
 * The timers of a page that is long in the background fire once a minute, as in Chromium; `goToBackground()` says when
 * that begins. Playwright's Chromium never does that by itself.
 */
function throttle(minute) {
  const { setTimeout: later, clearTimeout: cancel } = globalThis
  const repeated = new Map()
  let isBackground = false
  let last = 2 ** 40
  globalThis.goToBackground = () => { isBackground = true }
  const due = (delay = 0) => {
    const scaled = delay * (minute / 60_000)
    if (!isBackground) return scaled
    const now = performance.now()
    return Math.ceil((now + scaled) / minute) * minute - now
  }
  globalThis.setTimeout = (run, delay, ...rest) => later(run, due(delay), ...rest)
  globalThis.setInterval = (run, delay, ...rest) => {
    const id = last += 1
    const again = () => repeated.set(id, later(() => {
      again()
      run(...rest)
    }, due(delay)))
    again()
    return id
  }
  globalThis.clearTimeout = globalThis.clearInterval = (id) => {
    cancel(repeated.get(id) ?? id)
    repeated.delete(id)
  }
}

test('in the background, where timers fire once a minute, visitor and agent stay there', { timeout }, async (t) => {
  // A silent socket is closed after 100 s by default.
  relay = await OwnRelay.start(process.env.CAMPFIRE_RELAY_PID, 'background', {
    CAMPFIRE_IDLE_SECONDS: '15', CAMPFIRE_PRESENCE_GRACE_SECONDS: '1',
  })
  const prepare = (page) => page.addInitScript(throttle, MINUTE_MS)
  const at = relay.url
  const grace = await addAgent('Grace')
  const hidden = await openDashboard(t, browser, { claims: claimsOf(grace), at, prepare })
  const context = await newVisitor(t, browser)
  await prepare(context)
  const { tab, page } = await both(t, { at, context, prepare })
  await is(page, 'Online')
  for (const background of [tab.page, hidden]) await background.evaluate(() => goToBackground())
  await note(page)
  const noteAgents = () => page.evaluate(() => {
    globalThis.seen = []
    const online = document.querySelector('.online')
    const look = () => seen.push(online.getAttribute('aria-label').includes('Grace'))
    look()
    new MutationObserver(look).observe(online, { attributes: true, subtree: true, childList: true })
  })
  await noteAgents()
  // More than twice as long as a silent socket is kept.
  await sleep(4 * MINUTE_MS)
  assert.deepEqual(await page.evaluate(() => said), ['Online'])
  assert.deepEqual([...new Set(await page.evaluate(() => seen))], [true])
  await hidden.context().close()
  await tab.page.close()
  await is(page, 'Offline')
  await eventually(async () => (await page.evaluate(() => seen.at(-1))) === false, 'Grace is offline')
})
