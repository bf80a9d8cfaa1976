// A visitor and an agent talk: the built widget, a relay, a database.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Link } from '../link.js'
import {
  agentClaims, answer, identityOf, launch, newIdentitySecret, newVisitor, openSite, organization, sql, sqlAs, stored, Tab,
} from './support.js'

const LIMIT = { timeout: 300_000 }

let browser
before(async () => {
  browser = await launch()
})
after(() => browser?.close())

/** A page with the widget open, and a conversation that has begun. */
async function begin(t, { context, url, link, text = 'hello' } = {}) {
  url ??= await openSite(t, link && { at: link.url })
  context ??= await newVisitor(t, browser)
  const tab = await Tab.open(t, context, url)
  await tab.open()
  await tab.say(text)
  await tab.sent()
  await tab.connected()
  return { tab, url, context, conversation: await tab.conversation() }
}

async function newLink(t) {
  const link = await Link.to(process.env.CAMPFIRE_RELAY)
  t.after(() => link.close())
  return link
}

test('a visitor writes, an agent answers, and both see both', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t, { text: 'is anybody there?' })
  assert.deepEqual(await stored(conversation), ['is anybody there?'])
  await answer(conversation, 'yes: https://example.com/help')
  await tab.shows('is anybody there?', 'yes: https://example.com/help')
  const link = tab.widget.locator('.bubble a')
  assert.equal(await link.getAttribute('href'), 'https://example.com/help')
  assert.match(await link.getAttribute('rel'), /noopener/)
  const messages = await tab.events('message')
  assert.deepEqual(messages.map(({ content, sender_type }) => [content, sender_type]), [
    ['is anybody there?', 'visitor'], ['yes: https://example.com/help', 'agent'],
  ])
  await tab.page.reload()
  await tab.happened('ready')
  await tab.open()
  await tab.shows('is anybody there?', 'yes: https://example.com/help')
})

test('nothing is stored and nothing asked before the first message, and no token is in a URL or a cookie', LIMIT, async (t) => {
  const context = await newVisitor(t, browser)
  const urls = []
  context.on('request', (request) => urls.push(request.url()))
  const tab = await Tab.open(t, context, await openSite(t))
  tab.page.on('websocket', (socket) => urls.push(socket.url()))
  await tab.open()
  await tab.input.pressSequentially('thinking')
  const storage = () => tab.page.evaluate(() => ({ ...localStorage, ...sessionStorage }))
  assert.deepEqual(await storage(), {})
  assert.deepEqual(urls.filter((url) => url.includes('/api/') || url.startsWith('ws')), [])
  await tab.say('now')
  await tab.sent()
  await tab.connected()
  const { token } = await tab.kept()
  assert.ok(token.length > 20)
  assert.ok(urls.some((url) => url.startsWith('ws')))
  for (const url of urls) assert.ok(!url.includes(token) && !/eyJ/.test(url.replace(/apikey=[^&]*/, '')), url)
  assert.deepEqual(await context.cookies(), [])
  await tab.call('reset')
  assert.deepEqual(await storage(), {})
  await tab.shows()
})

test('a reply while offline appears after the reconnect, without a reload and without asking for the list again', LIMIT, async (t) => {
  const link = await newLink(t)
  const { tab, conversation } = await begin(t, { link })
  await answer(conversation, 'before')
  await tab.shows('hello', 'before')
  let lists = 0
  tab.page.on('request', (request) => (lists += request.method() === 'GET' && request.url().includes('/api/widget/messages') ? 1 : 0))
  link.cut()
  await tab.until(() => tab.events('connection'), (states) => ['reconnecting', 'offline'].includes(states.at(-1).state), 'lost')
  await tab.widget.locator('.hint.shown').waitFor()
  await answer(conversation, 'meanwhile')
  await answer(conversation, 'and more')
  await tab.say('sent while offline')
  await tab.widget.locator('.pending .bubble', { hasText: 'sent while offline' }).waitFor()
  link.mend()
  await tab.sent()
  await tab.shows('hello', 'before', 'meanwhile', 'and more', 'sent while offline')
  await tab.widget.locator('.hint:not(.shown)').waitFor({ state: 'attached' })
  assert.equal(lists, 0)
  assert.deepEqual(await stored(conversation), ['hello', 'before', 'meanwhile', 'and more', 'sent while offline'])
})

test('a message whose answer was lost is sent again, and is there once', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  let tries = 0
  await tab.page.route('**/api/widget/messages', async (route) => {
    if (route.request().method() !== 'POST') return route.fallback()
    tries += 1
    const response = await route.fetch()
    assert.ok(response.ok())
    if (tries <= 2) return route.abort('connectionreset')
    return route.fulfill({ response })
  })
  // Without the event, only the repeated request can confirm it.
  await tab.page.evaluate(() => {
    const log = document.querySelector('campfire-widget').shadowRoot.querySelector('.log')
    globalThis.added = 0
    new MutationObserver((records) => {
      for (const { addedNodes } of records) added += [...addedNodes].filter((node) => node.className?.includes?.('message')).length
    }).observe(log, { childList: true })
  })
  await tab.say('only once')
  await tab.until(() => Promise.resolve(tries), (count) => count >= 1, 'posted')
  await tab.sent()
  await tab.shows('hello', 'only once')
  await answer(conversation, 'fence')
  await tab.shows('hello', 'only once', 'fence')
  assert.deepEqual(await stored(conversation), ['hello', 'only once', 'fence'])
  assert.equal(await tab.page.evaluate(() => added), 2, 'each element was added once')
  const own = (await tab.events('message')).filter(({ content }) => content === 'only once')
  assert.equal(own.length, 1)
})

test('the event confirms the bubble before the request is answered', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  let release
  const held = new Promise((resolve) => {
    release = resolve
  })
  await tab.page.route('**/api/widget/messages', async (route) => {
    if (route.request().method() !== 'POST') return route.fallback()
    const response = await route.fetch()
    await held
    return route.fulfill({ response }).catch(() => {})
  })
  await tab.say('known by its id')
  assert.equal(await tab.widget.locator('.bubble', { hasText: 'known by its id' }).count(), 1)
  await tab.sent()
  await tab.shows('hello', 'known by its id')
  release()
  await answer(conversation, 'fence')
  await tab.shows('hello', 'known by its id', 'fence')
})

test('unread is right after it was read elsewhere', LIMIT, async (t) => {
  const { tab: one, context, url, conversation } = await begin(t)
  await one.call('close')
  const other = await Tab.open(t, context, url)
  await other.connected()
  await answer(conversation, 'first')
  await answer(conversation, 'second')
  for (const tab of [one, other]) {
    await tab.until(() => tab.unread(), (count) => count === 2, 'two unread')
    await tab.until(() => tab.page.title(), (title) => title === '(2) Shop', 'title')
    await tab.page.bringToFront()
    await tab.until(() => tab.widget.locator('.badge').getAttribute('data-count'), (text) => text === '2', 'badge')
    assert.match(await tab.widget.locator('.launcher').getAttribute('aria-label'), /2 unread messages/)
  }
  await other.page.bringToFront()
  await other.open()
  for (const tab of [one, other]) {
    await tab.until(() => tab.unread(), (count) => count === 0, 'all read')
    await tab.until(() => tab.page.title(), (title) => title === 'Shop', 'title')
  }
  await one.page.bringToFront()
  await one.widget.locator('.badge').waitFor({ state: 'hidden' })
  await one.page.reload()
  await one.happened('ready')
  await one.connected()
  await other.call('close')
  await answer(conversation, 'third')
  await one.until(() => one.unread(), (count) => count === 1, 'one unread')
  await one.page.evaluate(() => {
    document.title = 'Cart'
  })
  await one.until(() => one.page.title(), (title) => title === '(1) Cart', 'title of the page')
})

test("an agent's reading is seen", LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  await tab.widget.locator('.status', { hasText: 'Sent' }).waitFor()
  await sqlAs(agentClaims(), `insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
    select conversation_id, organization_id, 'agent', '${agentClaims().sub}', id from messages where conversation_id = '${conversation}'`)
  await tab.widget.locator('.status', { hasText: 'Seen' }).waitFor()
})

test('what is refused for good says so, and can be tried again or discarded', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  await tab.say('x'.repeat(20_000))
  await tab.widget.locator('.failed').waitFor()
  assert.ok((await tab.happened('error')).code === 'too_large' || (await tab.happened('error')).code === 'invalid')
  await tab.say('shorter')
  await tab.until(() => stored(conversation), (all) => all.length === 2, 'what follows is sent')
  await tab.widget.locator('.failed button', { hasText: 'Discard' }).click()
  await tab.shows('hello', 'shorter')
})

test('what was not sent survives a reload, and is there once', LIMIT, async (t) => {
  const link = await newLink(t)
  const { tab, conversation } = await begin(t, { link })
  link.cut()
  await tab.say('written in a tunnel')
  await tab.widget.locator('.pending').waitFor()
  link.mend()
  await tab.page.reload()
  await tab.happened('ready')
  await tab.open()
  await tab.shows('hello', 'written in a tunnel')
  await tab.sent()
  assert.deepEqual(await stored(conversation), ['hello', 'written in a tunnel'])
})

test('two tabs that begin at once have one conversation', LIMIT, async (t) => {
  const url = await openSite(t)
  const context = await newVisitor(t, browser)
  const tabs = await Promise.all([Tab.open(t, context, url), Tab.open(t, context, url)])
  for (const tab of tabs) await tab.open()
  await Promise.all(tabs.map((tab, index) => tab.say(`tab ${index}`)))
  for (const tab of tabs) await tab.sent()
  const ids = await Promise.all(tabs.map((tab) => tab.conversation()))
  assert.equal(ids[0], ids[1])
  assert.deepEqual((await stored(ids[0])).sort(), ['tab 0', 'tab 1'])
  for (const tab of tabs) await tab.until(() => tab.bubbles(), (bubbles) => bubbles.length === 2, 'both in both tabs')
})

test('a conversation that was deleted is gone from the page, and the next message begins another', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  await sql(`delete from conversations where id = '${conversation}'`)
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.length === 0, 'empty')
  assert.equal((await tab.happened('error')).code, 'conversation_not_found')
  assert.equal(await tab.kept(), null)
  await tab.say('again')
  await tab.sent()
  assert.notEqual(await tab.conversation(), conversation)
  assert.deepEqual(await stored(await tab.conversation()), ['again'])
})

test('a verified visitor finds the conversation on another device, and leaves nothing behind after logging out', LIMIT, async (t) => {
  const secret = await newIdentitySecret()
  const identity = identityOf(secret, { sub: `customer-${Math.random()}`, name: 'Vera Customer' })
  const url = await openSite(t)
  const laptop = await Tab.open(t, await newVisitor(t, browser), url)
  await laptop.call('identify', identity)
  await laptop.open()
  await laptop.say('from my laptop')
  await laptop.sent()
  const conversation = await laptop.conversation()
  assert.equal(await sql(`select customer_name from conversations where id = '${conversation}'`), 'Vera Customer')

  const phone = await Tab.open(t, await newVisitor(t, browser), url)
  await phone.call('identify', identity)
  await phone.open()
  await phone.shows('from my laptop')
  assert.equal(await phone.kept(), null, 'nothing is kept before the first message here')
  await phone.say('from my phone')
  await laptop.shows('from my laptop', 'from my phone')

  await phone.call('reset')
  await phone.shows()
  assert.equal(await phone.kept(), null)
  const other = identityOf(secret, { sub: `customer-${Math.random()}` })
  await phone.call('identify', other)
  await phone.open()
  await phone.say('somebody else')
  await phone.sent()
  assert.notEqual(await phone.conversation(), conversation)
  await phone.shows('somebody else')

  // Who logs in without the one before having logged out does not see their conversation.
  await phone.call('identify', identity)
  await phone.shows('from my laptop', 'from my phone')
})

test('a forged identity is refused by name, and binds nothing', LIMIT, async (t) => {
  await newIdentitySecret()
  const { tab, conversation } = await begin(t)
  await tab.call('identify', identityOf('not the secret', { sub: 'customer-1' }))
  assert.equal((await tab.happened('error')).code, 'identity_invalid')
  assert.equal(await sql(`select visitor_id is null from conversations where id = '${conversation}'`), 't')
})

/** A browser whose pages count the tones that they play. */
async function newListener(t) {
  const context = await newVisitor(t, browser)
  await context.addInitScript(() => {
    globalThis.tones = 0
    const start = OscillatorNode.prototype.start
    OscillatorNode.prototype.start = function (...parameters) {
      globalThis.tones += 1
      return start.apply(this, parameters)
    }
  })
  return context
}

test('a message that nobody sees comes with a sound, in one tab only', LIMIT, async (t) => {
  const context = await newListener(t)
  const { tab: one, url, conversation } = await begin(t, { context })
  await one.call('close')
  const tabs = [one, await Tab.open(t, context, url), await Tab.open(t, context, url)]
  for (const tab of tabs) {
    await tab.connected()
    await tab.page.mouse.click(5, 5)
  }
  const tones = () => Promise.all(tabs.map((tab) => tab.page.evaluate(() => tones)))
  await answer(conversation, 'ping')
  await one.until(tones, (all) => all.some((count) => count > 0), 'a sound')
  for (const tab of tabs) await tab.until(() => tab.unread(), (count) => count === 1, 'unread')
  assert.deepEqual((await tones()).filter((count) => count > 0), [2], 'one tab played its two tones')
})

test('a page that the visitor has not touched makes no sound', LIMIT, async (t) => {
  const context = await newListener(t)
  const { tab, url, conversation } = await begin(t, { context })
  await tab.page.close()
  const page = await context.newPage()
  await page.goto(url)
  // Playwright's own way to evaluate counts as a gesture.
  const session = await context.newCDPSession(page)
  const look = async (expression) => (await session.send('Runtime.evaluate', { expression, returnByValue: true })).result.value
  await tab.until(() => look(`noted.events.some(([, { state }]) => state === 'connected')`), Boolean, 'connected')
  await answer(conversation, 'ping')
  await tab.until(() => look(`document.title`), (title) => title === '(1) Shop', 'unread')
  assert.equal(await look('navigator.userActivation.hasBeenActive'), false)
  assert.equal(await look('tones'), 0)
})
