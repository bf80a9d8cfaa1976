// Content policies, and text that would like to be markup.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { agentClaims, answer, launch, newVisitor, openSite, organization, policyFor, relay, sql, sqlAs, Tab, tag } from './support.js'

const LIMIT = { timeout: 300_000 }

let browser
before(async () => {
  browser = await launch()
})
after(() => browser?.close())

const open = async (t, options, strictness) => Tab.open(t, await newVisitor(t, browser), await openSite(t, options), strictness)

test('the widget works under a strict policy with Trusted Types, and violates nothing', LIMIT, async (t) => {
  // Tab fails the test on every violation.
  const tab = await open(t, { attributes: 'data-locale="de" data-color="#2563eb"' })
  await tab.open()
  await tab.say('streng')
  await tab.sent()
  await tab.connected()
  assert.equal(await tab.widget.locator('h2').textContent(), 'Chatten Sie mit uns')
  await tab.call('setLocale', 'ar')
  await tab.widget.locator('.root[dir=rtl]').waitFor({ state: 'attached' })
  await answer(await tab.conversation(), 'https://example.com')
  await tab.shows('streng', 'https://example.com')
  // The sheet is there, though no style may be.
  const radius = await tab.widget.locator('.launcher').evaluate((element) => getComputedStyle(element).borderRadius)
  assert.equal(radius, '50%')
  assert.equal(await tab.widget.locator('.launcher').evaluate((element) => getComputedStyle(element).backgroundColor), 'rgb(37, 99, 235)')
})

test('a policy that forbids the relay is told to the page by name', LIMIT, async (t) => {
  const context = await newVisitor(t, browser)
  const tab = await Tab.open(t, context, await openSite(t, { policy: policyFor('https://elsewhere.example') }), { isStrict: false })
  await tab.open()
  await tab.say('into the void')
  const { code, hint } = await tab.happened('error')
  assert.equal(code, 'network')
  assert.match(hint, /connect-src/)
  await tab.widget.locator('.pending').waitFor()
})

test('a policy that forbids the socket is told to the page by name', LIMIT, async (t) => {
  const tab = await open(t, { policy: policyFor(relay).replace(` ${relay.replace('http', 'ws')}`, '') }, { isStrict: false })
  await tab.open()
  await tab.say('half way')
  await tab.sent()
  await tab.until(() => tab.events('error'), (errors) => errors.some(({ code }) => code === 'connection_forbidden'), 'forbidden')
})

test('a bundle that cannot be loaded is told to the page by name, and tried again', LIMIT, async (t) => {
  const context = await newVisitor(t, browser)
  let tries = 0
  await context.route('**/widget/widget-*', (route) => {
    tries += 1
    return tries === 1 ? route.abort('connectionreset') : route.continue()
  })
  const tab = await Tab.open(t, context, await openSite(t))
  assert.equal((await tab.happened('error')).code, 'bundle_unavailable')
  await tab.open()
  assert.equal(tries, 2)
})

const ATTACKS = [
  '<script>globalThis.pwned = 1</script>',
  '<img src=x onerror="globalThis.pwned = 1">',
  '"><svg onload=globalThis.pwned=1>',
  'javascript:globalThis.pwned=1//',
  'https://x.example/"onmouseover="globalThis.pwned=1',
  'https://x.example/\'><img src=x onerror=globalThis.pwned=1>',
  '{{constructor.constructor("globalThis.pwned=1")()}}',
  '</textarea><iframe srcdoc="<script>parent.pwned=1</script>">',
  '\u202egnp.exe\u0000<b>bold</b>',
].map((text) => text.replace('\u0000', '')) // Postgres has no text with it.

test('markup in every text field stays text', LIMIT, async (t) => {
  // Not with `<script` in it: a browser then takes the tag's nonce for stolen.
  const attributes = `data-title='${ATTACKS[1].replaceAll("'", '&#39;')}' data-greeting='${ATTACKS[2]}' data-color='red;}</style><img src=x onerror=globalThis.pwned=1>' data-locale='"><img src=x onerror=globalThis.pwned=1>'`
  const tab = await open(t, { attributes })
  await tab.call('setContext', { name: ATTACKS[1], email: ATTACKS[0], page: ATTACKS[2] })
  await tab.open()
  assert.equal(await tab.widget.locator('h2').textContent(), ATTACKS[1])
  assert.equal(await tab.widget.locator('.welcome p').textContent(), ATTACKS[2])
  for (const attack of ATTACKS) await tab.say(attack)
  await tab.sent()
  await tab.connected()
  const conversation = await tab.conversation()
  // An agent whose name is an attack, and who writes them.
  const mallory = randomUUID()
  await sql(`insert into agents (organization_id, user_id, display_name) values ('${organization}', '${mallory}', '${ATTACKS[1]}')`)
  for (const attack of ATTACKS) {
    const text = attack.replaceAll("'", "''")
    await sqlAs({ ...agentClaims(), sub: mallory }, `insert into messages (organization_id, conversation_id, content, sender_type, sender_name)
      values ('${organization}', '${conversation}', '${text}', 'agent', '${ATTACKS[1]}')`)
  }
  await tab.shows(...ATTACKS, ...ATTACKS)
  await tab.page.reload()
  await tab.happened('ready')
  await tab.open()
  await tab.shows(...ATTACKS, ...ATTACKS)
  const { elements, hrefs } = await tab.page.evaluate(() => {
    const root = document.querySelector('campfire-widget').shadowRoot
    return {
      elements: [...new Set([...root.querySelectorAll('*')].map(({ localName }) => localName))].sort(),
      hrefs: [...root.querySelectorAll('a')].map(({ href }) => href),
    }
  })
  for (const name of ['script', 'img', 'iframe', 'b']) assert.ok(!elements.includes(name), name)
  for (const href of hrefs) assert.match(href, /^https:\/\/x\.example\//)
  assert.equal(await tab.page.evaluate(() => globalThis.pwned), undefined)
})

test('a policy that names the relay instead of a nonce is enough', LIMIT, async (t) => {
  const tab = await open(t, { policy: policyFor(relay).replace(/'nonce-[^']*'/, relay), attributes: 'data-locale="es"' })
  await tab.open()
  assert.equal(await tab.widget.locator('h2').textContent(), 'Chatea con nosotros')
})

test('the tag is all that a page needs, also where the body comes later', LIMIT, async (t) => {
  const pages = { '/': `<p>before</p>${tag().replace(' async', '')}<p>after</p>` }
  const tab = await open(t, { pages })
  await tab.open()
  assert.equal(await tab.widget.count(), 1)
})
