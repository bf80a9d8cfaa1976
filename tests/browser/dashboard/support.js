// What the dashboard's tests share: the page as an agent opens it, and what a visitor does meanwhile.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { chromium } from 'playwright-core'
import { DEADLINE_MS, organization, relay, sign, sql } from '../../clients/support.js'

export { dropSlot } from '../../clients/relay.js'
export { agent, agentClaims, DEADLINE_MS, openConversation, organization, relay, sign, sql, sqlAs, visitorClaims, writeAs } from '../../clients/support.js'

const SHOTS = new URL('../shots/', import.meta.url)

export const launch = () =>
  chromium.launch({ executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'] })

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600

export const claimsOf = (user) => ({ role: 'authenticated', sub: user, org_id: organization, exp: inAnHour() })

/** Another active agent. */
export async function addAgent(name) {
  const id = randomUUID()
  await sql(`insert into agents (organization_id, user_id, display_name, email)
    values ('${organization}', '${id}', '${name.replaceAll("'", "''")}', 'agent@example.com')`)
  return id
}

/** Rows written by the application itself, in one statement. */
export async function addMessages(conversation, count, content = `'message ' || n`, sender = 'visitor') {
  await sql(`insert into messages (organization_id, conversation_id, content, sender_type, created_at)
    select '${organization}', '${conversation}', ${content}, '${sender}', now() + n * interval '1 microsecond'
    from generate_series(1, ${count}) n`)
}

/**
 * The dashboard as an agent has it: a page of its own, which must end without errors and without anything that its
 * content policy forbids. `context` of the browser with these options, `claims` of whoever is signed in, `at` a relay.
 * `prepare` gets the page before it is opened; unless `waits`, it may be without a stream.
 */
export async function openDashboard(t, browser, {
  claims, at = relay, path = '', context: options = {}, allowed = [], prepare = async () => {}, waits = true,
} = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  await prepare(page)
  const problems = watch(page, allowed)
  if (claims) {
    await page.addInitScript((token) => {
      if (!sessionStorage.getItem('campfire:token')) sessionStorage.setItem('campfire:token', token)
    }, sign(claims))
  }
  t.after(async () => {
    await context.close()
    assert.deepEqual(problems, [], 'errors of the page')
  })
  await page.goto(`${at}/dashboard/${path}`)
  if (claims && waits) await isLive(page)
  return page
}

/** What goes wrong on a page, as it goes wrong. */
function watch(page, allowed) {
  const problems = []
  const tell = (text) => {
    if (!allowed.some((pattern) => pattern.test(text))) problems.push(text)
  }
  page.on('pageerror', (error) => tell(`uncaught: ${error.stack}`))
  page.on('console', (message) => {
    if (message.type() === 'error') tell(`console: ${message.text()}`)
  })
  return problems
}

/** Both of the organization's channels are joined. */
export async function isLive(page) {
  await page.locator('.desk').waitFor({ timeout: DEADLINE_MS })
  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
}

/** The row of a conversation in the list. */
export const rowOf = (page, conversation) => page.locator(`.row[data-id="${conversation}"]`)

export async function openInList(page, conversation) {
  await rowOf(page, conversation).click()
  await page.locator('.messages[aria-busy=false]').waitFor()
}

/** What the open conversation shows, in order. */
export const shownMessages = (page) => page.locator('.message .text').allTextContents()

/** A page whose relay is away says so on the console; everything else is a fault. */
export const AWAY = [/Failed to load resource/, /WebSocket connection to/, /net::ERR/]

/** What the open conversation shows is what the database has, in order, each message once. */
export async function isWhole(page, conversation, what) {
  const stored = async () => JSON.parse(await sql(
    `select coalesce(json_agg(content order by created_at, id), '[]') from messages where conversation_id = '${conversation}'`,
  ))
  await eventually(async () => {
    const [shown, expected] = [await shownMessages(page), await stored()]
    return JSON.stringify(shown) === JSON.stringify(expected) || `${shown.join('|')} instead of ${expected.join('|')}`
  }, what)
}

/** Waits for a fact. */
export async function eventually(look, what) {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    let seen
    try {
      seen = await look()
      if (seen === true) return
    } catch (error) {
      seen = error.message
    }
    if (Date.now() > deadline) assert.fail(`${what}: ${JSON.stringify(seen)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** The unread badge: 0 without one. */
export const unreadOf = (page, conversation) => page.evaluate((id) => {
  const row = document.querySelector(`.row[data-id="${id}"]`)
  if (!row) return null
  return Number.parseInt(row.querySelector('.badge .unseen')?.textContent ?? '0', 10)
}, conversation)

export const isUnread = (page, conversation, count) =>
  eventually(async () => (await unreadOf(page, conversation)) === count || (await unreadOf(page, conversation)), `unread is ${count}`)

/**
 * The longest task of the page's main thread while `act` runs, in milliseconds of processor time: what other programs
 * of the machine take does not count.
 */
export async function longestTask(page, act) {
  const session = await page.context().newCDPSession(page)
  const events = []
  session.on('Tracing.dataCollected', ({ value }) => events.push(...value))
  await session.send('Tracing.start', {
    transferMode: 'ReportEvents',
    traceConfig: { includedCategories: ['disabled-by-default-devtools.timeline', 'devtools.timeline', '__metadata'] },
  })
  await act()
  const complete = new Promise((resolve) => session.once('Tracing.tracingComplete', resolve))
  await session.send('Tracing.end')
  await complete
  await session.detach()
  const isMain = ({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain'
  const threads = new Set(events.filter(isMain).map(({ pid, tid }) => `${pid}/${tid}`))
  const tasks = events.filter(({ name, pid, tid, tdur }) =>
    name === 'RunTask' && threads.has(`${pid}/${tid}`) && tdur !== undefined)
  assert.ok(tasks.length > 10, 'the trace has no tasks')
  return Math.max(...tasks.map(({ tdur }) => tdur)) / 1000
}

/** For people to look at; git does not see it. */
export async function shoot(page, name) {
  await mkdir(SHOTS, { recursive: true })
  await page.screenshot({ path: new URL(`dashboard-${name}.png`, SHOTS).pathname })
}
