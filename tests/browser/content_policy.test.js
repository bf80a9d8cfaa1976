// Pages with a content policy, in the Chromium that the distribution brings: the unmodified supabase-js, and
// web/client around it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'
import { agentClaims, apiKey, openConversation, organization, relay, sign, writeAs } from '../clients/support.js'

const SUPABASE = new URL('../clients/node_modules/@supabase/supabase-js/dist/umd/supabase.js', import.meta.url)
const HELPER = new URL('../../web/client/dist/src/', import.meta.url)
const socket = relay.replace(/^http/, 'ws')

/** `start({ helper, worker })` connects; `statuses` and `events` are what came. Sockets that are made are counted. */
const PAGE = `<!doctype html><title>policy</title>
<script src="/supabase.js"></script>
<script type="module">
  import { createCampfire } from '/helper/index.js'
  Object.assign(globalThis, { statuses: [], events: [], sockets: 0, beats: [] })
  globalThis.WebSocket = class extends WebSocket {
    constructor(...parameters) {
      super(...parameters)
      globalThis.sockets += 1
    }
  }
  globalThis.start = ({ relay, apiKey, token, name, realtime = {} }) => {
    const heartbeatCallback = (status) => beats.push(status)
    const client = supabase.createClient(relay, apiKey, { realtime: { heartbeatCallback, ...realtime } })
    const campfire = createCampfire(client, {
      getToken: () => token, onIncomplete: () => {}, backoff: { minMs: 100, maxMs: 500 },
    })
    campfire.channel(name)
      .on('message:created', ({ payload }) => events.push(payload.content))
      .subscribe((status, error) => statuses.push([status, error?.message ?? '']))
  }
  globalThis.isReady = true
</script>`

let browser
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'] })
})
after(() => browser?.close())

/** The page under this policy, joined to a conversation of its own. */
async function open(t, policy, realtime) {
  const server = createServer(async ({ url }, response) => {
    const path = url === '/supabase.js' ? SUPABASE : url.startsWith('/helper/') && new URL(url.slice(8), HELPER)
    response.setHeader('content-security-policy', policy)
    response.setHeader('content-type', path ? 'text/javascript' : 'text/html')
    response.end(path ? await readFile(path) : PAGE)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const page = await browser.newPage()
  t.after(async () => {
    await page.close()
    server.close()
  })
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  await page.waitForFunction(() => globalThis.isReady)
  const conversation = await openConversation()
  const name = `org:${organization}:conv:${conversation}`
  await page.evaluate((options) => start(options), { relay, apiKey, token: sign(agentClaims()), name, realtime })
  return { page, conversation }
}

const SCRIPTS = "default-src 'none'; script-src 'self' 'unsafe-inline'"

for (const policy of [
  `${SCRIPTS}; connect-src 'self'`,
  // Nothing but the fallback forbids it.
  SCRIPTS,
  // Another scheme.
  `${SCRIPTS}; connect-src ${relay.replace('http', 'https')}`,
]) {
  test(`a relay that the policy forbids is told of, and tried again: ${policy}`, { timeout: 60_000 }, async (t) => {
    const { page } = await open(t, policy)
    await page.waitForFunction(() => sockets >= 4)
    const statuses = await page.evaluate(() => statuses)
    assert.deepEqual(statuses[0], ['joining', ''])
    const told = `the page's content policy forbids ${socket}: allow it by connect-src`
    assert.deepEqual(statuses[1], ['reconnecting', told])
    assert.ok(!JSON.stringify(statuses).includes(apiKey), 'the key is quoted')
    assert.ok(statuses.every(([status]) => status === 'joining' || status === 'reconnecting'))
  })
}

test('a relay that the policy allows is joined, and its events come', { timeout: 60_000 }, async (t) => {
  const { page, conversation } = await open(t, `${SCRIPTS}; connect-src ${socket}`)
  await page.waitForFunction(() => statuses.some(([status]) => status === 'joined'))
  await writeAs(agentClaims(), conversation, 'through the policy')
  await page.waitForFunction(() => events.includes('through the policy'))
  assert.equal(await page.evaluate(() => sockets), 1)
})

test('a policy that only reports forbids nothing', { timeout: 60_000 }, async (t) => {
  const { page } = await open(t, 'connect-src *')
  await page.evaluate(() => dispatchEvent(new SecurityPolicyViolationEvent('securitypolicyviolation', {
    blockedURI: 'ws', violatedDirective: 'connect-src', effectiveDirective: 'connect-src', disposition: 'report',
    documentURI: location.href, originalPolicy: '', statusCode: 0,
  })))
  await page.waitForFunction(() => statuses.some(([status]) => status === 'joined'))
  assert.deepEqual(await page.evaluate(() => statuses.map(([, reason]) => reason)), ['', ''])
})

test('`worker: true` beats where the policy lets workers come from blobs', { timeout: 60_000 }, async (t) => {
  const policy = `${SCRIPTS}; connect-src ${socket}; worker-src blob:`
  const { page } = await open(t, policy, { worker: true, heartbeatIntervalMs: 3000 })
  await page.waitForFunction(() => beats.filter((status) => status === 'ok').length >= 2)
  assert.equal(await page.evaluate(() => sockets), 1)
})

for (const policy of ['', "; worker-src 'self'"]) {
  test(`a worker that the policy forbids is told of, and tried again: ${policy}`, { timeout: 60_000 }, async (t) => {
    const allowed = `${SCRIPTS}; connect-src ${socket}${policy}`
    const { page } = await open(t, allowed, { worker: true, heartbeatIntervalMs: 200 })
    await page.waitForFunction(() => sockets >= 3)
    const told = 'the page\'s content policy forbids the client\'s worker: allow it by worker-src blob:'
    assert.ok((await page.evaluate(() => statuses)).some(([status, reason]) => status === 'reconnecting' && reason === told))
  })
}
