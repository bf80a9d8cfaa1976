// The widget for everybody: screen readers, keyboards, phones, dark rooms, scripts from right to left.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { agentClaims, answer, launch, newVisitor, openSite, organization, shoot, sql, sqlAs, Tab } from './support.js'

const LIMIT = { timeout: 300_000 }

let browser
let axe
before(async () => {
  browser = await launch()
  axe = await readFile(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8')
})
after(() => browser?.close())

const DESKTOP = { viewport: { width: 1180, height: 760 } }
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }

async function converse(tab) {
  await tab.open()
  await tab.say('Hi! My order 4711 has not arrived yet. Is there any news?')
  await tab.sent()
  await tab.connected()
  const conversation = await tab.conversation()
  const write = (type, name, text) => sqlAs({ ...agentClaims(), role: 'service_role' }, `insert into messages
    (organization_id, conversation_id, content, sender_type, sender_name)
    values ('${organization}', '${conversation}', '${text}', '${type}', ${name ? `'${name}'` : 'null'})`)
  await write('ai', null, 'Thanks for reaching out! It left our warehouse on Thursday. I am handing you over to a colleague.')
  await write('system', null, 'Ada joined the conversation')
  await write('agent', 'Ada Lovelace', 'Hello, this is Ada. I have just spoken with the carrier.')
  await write('agent', 'Ada Lovelace', 'It will be delivered tomorrow before noon: https://tracking.example.com/parcels/4711')
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.length === 5, 'all')
  await tab.say('Perfect, thank you so much!')
  await tab.sent()
  return conversation
}

/** Runs axe-core in the page, from outside of its policy. */
async function violations(tab) {
  // Colours are measured as they come to rest.
  await tab.atRest()
  await tab.page.evaluate(axe)
  const { violations, incomplete } = await tab.page.evaluate(() => axe.run(document, { resultTypes: ['violations', 'incomplete'] }))
  const told = (results) => results.flatMap(({ id, nodes }) => nodes.map(({ target, any }) => `${id} ${target} ${any[0]?.message ?? ''}`))
  return { violations: told(violations), incomplete: told(incomplete).filter((text) => text.startsWith('color-contrast') && text.includes('campfire')) }
}

for (const [name, options, attributes] of [
  ['light', DESKTOP, ''],
  ['dark', { ...DESKTOP, colorScheme: 'dark' }, ''],
  ['phone', PHONE, ''],
  ['phone-dark', { ...PHONE, colorScheme: 'dark' }, 'data-color="#facc15"'],
  ['rtl', DESKTOP, 'data-locale="ar" data-position="left" data-color="#0f766e"'],
]) {
  test(`axe-core finds nothing: ${name}`, LIMIT, async (t) => {
    const context = await newVisitor(t, browser, { ...options, bypassCSP: true })
    const tab = await Tab.open(t, context, await openSite(t, { attributes }))
    assert.deepEqual((await violations(tab)).violations, [], 'closed')
    await shoot(tab.page, `${name}-closed`)
    await tab.open()
    assert.deepEqual((await violations(tab)).violations, [], 'empty')
    await shoot(tab.page, `${name}-empty`)
    await converse(tab)
    await tab.input.fill('One more question: ')
    assert.deepEqual((await violations(tab)).violations, [], 'conversation')
    await shoot(tab.page, name)
    await tab.page.route('**/api/widget/messages', (route) => route.abort())
    await tab.input.press('Enter')
    await tab.widget.locator('.pending').waitFor()
    assert.deepEqual((await violations(tab)).violations, [], 'not sent yet')
    await shoot(tab.page, `${name}-unsent`)
    await tab.call('close')
    await answer(await tab.conversation(), 'You are welcome.')
    await tab.until(() => tab.unread(), (count) => count === 1, 'unread')
    assert.deepEqual((await violations(tab)).violations, [], 'unread')
    await shoot(tab.page, `${name}-unread`)
  })
}

test('everything can be done by keyboard, and the focus is never lost', LIMIT, async (t) => {
  const tab = await Tab.open(t, await newVisitor(t, browser), await openSite(t))
  const focused = () => tab.page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.className || document.activeElement?.shadowRoot?.activeElement?.localName)
  await tab.page.keyboard.press('Tab')
  assert.equal(await focused(), 'launcher')
  await tab.page.keyboard.press('Enter')
  await tab.widget.locator('.panel').waitFor()
  assert.equal(await focused(), 'textarea')
  await tab.page.keyboard.type('first line')
  await tab.page.keyboard.press('Shift+Enter')
  await tab.page.keyboard.type('second line')
  await tab.page.keyboard.press('Enter')
  await tab.sent()
  await tab.shows('first line\nsecond line')
  assert.equal(await focused(), 'textarea')
  await tab.page.keyboard.press('Escape')
  await tab.widget.locator('.panel').waitFor({ state: 'hidden' })
  assert.equal(await focused(), 'launcher')
  assert.equal(await tab.widget.locator('.launcher').getAttribute('aria-expanded'), 'false')
})

test('a screen reader is told of new messages only, and of each once', LIMIT, async (t) => {
  const tab = await Tab.open(t, await newVisitor(t, browser), await openSite(t))
  const conversation = await converse(tab)
  const log = tab.widget.locator('[role=log]')
  assert.equal(await log.getAttribute('aria-relevant'), 'additions')
  await log.evaluate((element) => {
    globalThis.changes = []
    new MutationObserver((records) => {
      for (const { addedNodes, removedNodes } of records) {
        for (const node of addedNodes) changes.push(`+${node.querySelector?.('.bubble')?.textContent ?? node.textContent}`)
        for (const node of removedNodes) changes.push(`-${node.textContent}`)
      }
    }).observe(element, { childList: true })
  })
  await tab.say('own')
  await tab.sent()
  await answer(conversation, 'theirs')
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.at(-1) === 'theirs', 'theirs')
  assert.deepEqual(await tab.page.evaluate(() => changes), ['+own', '+theirs'])
})

test('older messages come on request, and are no news', LIMIT, async (t) => {
  const tab = await Tab.open(t, await newVisitor(t, browser), await openSite(t))
  await tab.open()
  await tab.say('hello')
  await tab.sent()
  await tab.connected()
  const conversation = await tab.conversation()
  // Read, so that no older ones are fetched to count what is unread.
  await answer(conversation, 'read')
  await tab.until(() => sql(`select count(*) from read_receipts where conversation_id = '${conversation}'`), (count) => count === '1', 'read')
  await sqlAs({ ...agentClaims(), role: 'service_role' }, `insert into messages (organization_id, conversation_id, content, sender_type, created_at)
    select '${organization}', '${conversation}', 'old ' || n, 'visitor', now() - interval '1 day' + n * interval '1 second' from generate_series(1, 70) n`)
  await tab.page.reload()
  await tab.happened('ready')
  await tab.open()
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.length === 50, 'the newest')
  const log = tab.widget.locator('.log')
  await log.evaluate((element) => {
    globalThis.busy = new Set()
    new MutationObserver(() => busy.add(element.getAttribute('aria-busy'))).observe(element, { childList: true })
  })
  const top = await tab.widget.locator('.bubble').first().textContent()
  await tab.widget.locator('.earlier').click()
  await tab.until(() => tab.bubbles(), (bubbles) => bubbles.length === 72, 'all')
  assert.equal(await tab.widget.locator('.earlier').isHidden(), true)
  // What the visitor was looking at is where it was.
  assert.ok(await tab.widget.locator('.bubble', { hasText: top }).first().evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect()
    const panel = element.closest('.scroll').getBoundingClientRect()
    return bottom > panel.top && top < panel.bottom
  }))
})

test('on a phone the panel fills the screen, fits above the keyboard, and keeps the focus', LIMIT, async (t) => {
  const tab = await Tab.open(t, await newVisitor(t, browser, PHONE), await openSite(t))
  await tab.widget.locator('.launcher').tap()
  const panel = tab.widget.locator('.panel')
  await panel.waitFor()
  await tab.atRest()
  assert.deepEqual(await panel.boundingBox(), { x: 0, y: 0, width: 390, height: 844 })
  assert.equal(await panel.getAttribute('aria-modal'), 'true')
  assert.equal(await tab.input.evaluate((element) => getComputedStyle(element).fontSize), '16px')
  // The keyboard takes the lower part of the visual viewport; Chromium on a desk has none, so its size is played.
  await tab.page.evaluate(() => {
    Object.defineProperty(visualViewport, 'height', { value: 500, configurable: true })
    visualViewport.dispatchEvent(new Event('resize'))
  })
  assert.equal((await panel.boundingBox()).height, 500)
  const inside = () => tab.page.evaluate(() => document.activeElement?.localName === 'campfire-widget')
  for (let press = 0; press < 8; press += 1) {
    await tab.page.keyboard.press(press < 5 ? 'Tab' : 'Shift+Tab')
    assert.equal(await inside(), true)
  }
})

test('who wants less motion has none', LIMIT, async (t) => {
  const tab = await Tab.open(t, await newVisitor(t, browser, { reducedMotion: 'reduce' }), await openSite(t))
  await tab.open()
  await tab.say('calm')
  for (const selector of ['.panel', '.message', '.launcher']) {
    const { animationName, transitionDuration } = await tab.widget.locator(selector).first().evaluate((element) => {
      const { animationName, transitionDuration } = getComputedStyle(element)
      return { animationName, transitionDuration }
    })
    assert.equal(animationName, 'none', selector)
    assert.match(transitionDuration, /^0s/, selector)
  }
})
