// What the widget's tests share: a customer's page with a strict content policy, and what a visitor does on it.
import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { chromium } from 'playwright-core'
import { dropSlot, OwnRelay } from '../../clients/relay.js'
import { DEADLINE_MS, agentClaims, organization, relay, sql, sqlAs, writeAs } from '../../clients/support.js'

export { dropSlot }
export { DEADLINE_MS, agentClaims, organization, relay, sql, sqlAs, writeAs }

export const launch = () =>
  chromium.launch({ executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'] })

const NONCE = 'n0nce'

/** As docs/widget.md asks for, and nothing beyond it. */
export const policyFor = (at) => [
  "default-src 'none'", `script-src 'nonce-${NONCE}'`, `connect-src ${at} ${at.replace('http', 'ws')}`,
  "require-trusted-types-for 'script'", "trusted-types 'none'",
].join('; ')

const ARTICLE = '<main><h1>Fieldnotes Coffee</h1><p>Small batches, roasted on Mondays.</p></main>'

/** The tag of docs/widget.md. */
export const tag = ({ at = relay, attributes = '' } = {}) =>
  `<script nonce="${NONCE}" src="${at}/widget/loader.js" data-organization="${organization}" ${attributes} async></script>`

/** A customer's site. `pages` are bodies by path; every page has the same policy. */
export async function openSite(t, { at = relay, attributes = '', pages = {}, policy = policyFor(at), files = {} } = {}) {
  const server = createServer(({ url }, response) => {
    const { pathname } = new URL(url, 'http://site')
    if (Object.hasOwn(files, pathname)) {
      response.setHeader('content-type', 'text/javascript; charset=utf-8')
      return response.end(files[pathname])
    }
    response.setHeader('content-type', 'text/html; charset=utf-8')
    if (policy) response.setHeader('content-security-policy', policy)
    const body = pages[pathname] ?? `${ARTICLE}${tag({ at, attributes })}`
    response.end(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>
      <meta name="viewport" content="width=device-width, initial-scale=1"></head><body>${body}</body></html>`)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}

/** A browser of its own, as far as what is stored goes. */
export async function newVisitor(t, browser, options) {
  const context = await browser.newContext(options)
  t.after(() => context.close())
  // Before the page's own scripts; what it notes is looked at when the page is left.
  await context.addInitScript(() => {
    globalThis.noted = { events: [], violations: [] }
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      noted.violations.push(`${violatedDirective} ${blockedURI}`)
    })
    const listen = () => {
      for (const event of ['ready', 'open', 'close', 'message', 'unread', 'connection', 'error']) {
        campfire('on', event, (detail) => noted.events.push([event, detail]))
      }
    }
    // The loader comes later, and takes along what has waited.
    globalThis.campfire = (...call) => (globalThis.campfire.q ??= []).push(call)
    listen()
  })
  return context
}

/** One tab, with the widget on it. */
export class Tab {
  static async open(t, context, url, { isStrict = true } = {}) {
    const tab = new Tab()
    tab.page = await context.newPage()
    tab.page.setDefaultTimeout(DEADLINE_MS)
    tab.problems = []
    if (process.env.CAMPFIRE_TEST_CONSOLE) tab.page.on('console', (message) => console.log(message.text()))
    tab.page.on('pageerror', (error) => tab.problems.push(error.stack ?? error.message))
    t.after(async () => {
      if (isStrict && !tab.page.isClosed()) {
        const violations = await tab.page.evaluate(() => globalThis.noted?.violations ?? []).catch(() => [])
        tab.problems.push(...violations)
      }
      assert.deepEqual(tab.problems, [], 'errors of the page')
    })
    await tab.page.goto(url)
    await tab.happened('ready')
    return tab
  }

  get widget() {
    return this.page.locator('campfire-widget')
  }

  get input() {
    return this.widget.locator('textarea')
  }

  call(...call) {
    return this.page.evaluate((call) => campfire(...call), call)
  }

  /** Resolves with the newest detail of an event of which the page is or was told. */
  async happened(event) {
    const details = await this.until(() => this.events(event), (details) => details.length > 0, event)
    return details.at(-1)
  }

  events(event) {
    return this.page.evaluate((event) => noted.events.filter(([name]) => name === event).map(([, detail]) => detail), event)
  }

  async open() {
    await this.call('open')
    await this.widget.locator('.panel').waitFor()
  }

  async say(text) {
    await this.input.fill(text)
    await this.input.press('Enter')
  }

  /** Every bubble's text, from the top. */
  bubbles() {
    return this.widget.locator('.bubble').allTextContents()
  }

  /** Waits until the bubbles are these. */
  async shows(...texts) {
    await this.until(() => this.bubbles(), (bubbles) => JSON.stringify(bubbles) === JSON.stringify(texts), `bubbles ${texts}`)
  }

  /** Waits until nothing is on its way. */
  async sent() {
    await this.until(() => this.widget.locator('.pending').count(), (count) => count === 0, 'all is sent')
    assert.deepEqual(await this.widget.locator('.failed').allTextContents(), [])
  }

  async connected() {
    await this.until(() => this.events('connection'), (states) => states.at(-1)?.state === 'connected', 'connected')
  }

  unread() {
    return this.events('unread').then((events) => events.at(-1)?.count ?? 0)
  }

  /** What the browser keeps of the conversation. */
  async kept() {
    return this.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith('campfire:'))?.[1] ?? 'null'))
  }

  async conversation() {
    return (await this.kept()).conversationId
  }

  /** Waits until nothing moves but what moves for ever. */
  async atRest() {
    const moving = () => this.page.evaluate(() => {
      const roots = [document, ...[...document.querySelectorAll('campfire-widget')].map(({ shadowRoot }) => shadowRoot)]
      return roots.flatMap((root) => root.getAnimations())
        .filter(({ playState, effect }) => playState !== 'finished' && effect.getComputedTiming().endTime !== Infinity).length
    })
    await this.until(moving, (count) => count === 0, 'at rest')
  }

  async until(look, fits, what) {
    for (const deadline = Date.now() + DEADLINE_MS; ; ) {
      const seen = await look()
      if (fits(seen)) return seen
      if (Date.now() > deadline) {
        const events = await this.page.evaluate(() => noted.events.slice(-20)).catch(() => [])
        assert.fail(`${what}: still ${JSON.stringify(seen)} after ${DEADLINE_MS} ms; ${JSON.stringify(events)}`)
      }
      await sleep(25)
    }
  }
}

/** A page of this visitor's with the widget open, and a conversation that has begun. */
export async function converse(t, context, at) {
  const tab = await Tab.open(t, context, await openSite(t, { at }))
  await tab.open()
  await tab.say('hello')
  await tab.sent()
  await tab.connected()
  return { tab }
}

/** A relay for one test, which may kill it. */
export async function ownRelay(t, name, environment) {
  const own = await OwnRelay.start(process.env.CAMPFIRE_RELAY_PID, `widget_${name}`, environment)
  t.after(async () => {
    await own.kill9()
    await dropSlot(own)
  })
  return own
}

/** The last messages of a conversation in the database, oldest first. */
export async function stored(conversation) {
  const json = await sql(`select coalesce(json_agg(content order by created_at, id), '[]') from messages where conversation_id = '${conversation}'`)
  return JSON.parse(json)
}

/** An agent answers, as its application would: by a row. */
export const answer = (conversation, content) => writeAs(agentClaims(), conversation, content)

const SHOTS = new URL('../shots/', import.meta.url)

/** For people to look at. */
export async function shoot(page, name) {
  await mkdir(SHOTS, { recursive: true })
  await page.screenshot({ path: new URL(`widget-${name}.png`, SHOTS).pathname })
}

/** What a customer's server signs for a visitor who has logged in. */
export function identityOf(secret, claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}

/** An identity secret of the organization, valid from now on. */
export async function newIdentitySecret() {
  const secret = randomUUID() + randomUUID()
  await sql(`insert into organization_secrets (organization_id, secret) values ('${organization}', '${secret}')`)
  return secret
}
