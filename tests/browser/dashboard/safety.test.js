// Text is text, wherever it comes from; and the page can be used without seeing it, and without a mouse.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connect, subscribe } from '../../clients/support.js'
import {
  addAgent, addMessages, agentClaims, claimsOf, DEADLINE_MS, eventually, launch, openConversation, openDashboard,
  openInList, organization, relay, rowOf, shoot, shownMessages, sql, visitorClaims, writeAs,
} from './support.js'

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 2

const ATTACKS = [
  '<img src=x onerror="globalThis.attacked = 1">',
  '<script>globalThis.attacked = 1</script>',
  '"><svg onload="globalThis.attacked = 1">',
  "' onmouseover='globalThis.attacked = 1' x='",
  'javascript:globalThis.attacked=1//https://example.com',
  '</title><script>globalThis.attacked = 1</script>',
  '{{constructor.constructor("globalThis.attacked = 1")()}}',
]

test('markup in every field of text stays text, under a policy that forbids anything else', { timeout }, async (t) => {
  const quoted = (text) => `'${text.replaceAll("'", "''")}'`
  const name = await sql(`select name from organizations where id = '${organization}'`)
  t.after(() => sql(`update organizations set name = ${quoted(name)} where id = '${organization}'`))
  await sql(`update organizations set name = ${quoted(ATTACKS[5])} where id = '${organization}'`)
  const mallory = await addAgent(ATTACKS[0])
  const conversation = await openConversation()
  await sql(`update conversations set customer_name = ${quoted(ATTACKS.join(' '))},
    customer_email = ${quoted(ATTACKS[2])}, assignee_id = '${mallory}' where id = '${conversation}'`)
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const other = await openDashboard(t, browser, { claims: claimsOf(mallory) })
  await openInList(page, conversation)
  await openInList(other, conversation)
  for (const sender of ['visitor', 'agent', 'ai', 'system']) {
    for (const attack of ATTACKS) {
      await sql(`insert into messages (organization_id, conversation_id, content, sender_type, sender_name, sender_email)
        values ('${organization}', '${conversation}', ${quoted(attack)}, '${sender}', ${quoted(attack)}, ${quoted(attack)})`)
    }
  }
  const visitor = await connect(t, '2.0.0', visitorClaims(conversation))
  const { channel } = await subscribe(visitor, `org:${organization}:widget:${conversation}`)
  await channel.send({ type: 'broadcast', event: 'typing:start', payload: { name: ATTACKS[0], html: ATTACKS[1] } })
  const sent = ATTACKS.length * 4
  await eventually(async () => (await shownMessages(page)).length === sent, 'all are shown')
  assert.deepEqual(await shownMessages(page), [1, 2, 3, 4].flatMap(() => ATTACKS))
  for (const one of [page, other]) {
    await one.getByLabel('Reply').fill(ATTACKS[1])
    await one.keyboard.press('Enter')
  }
  await eventually(async () => (await shownMessages(page)).length === sent + 2, 'replies, too')
  assert.equal((await page.title()).replace(/^\(\d+\) /, ''), `${ATTACKS[5]} – Conversations`)
  assert.ok((await rowOf(page, conversation).textContent()).includes(ATTACKS[0]))
  for (const one of [page, other]) {
    const found = await one.evaluate(() => ({
      attacked: globalThis.attacked,
      elements: document.querySelectorAll('script, img, iframe, object, embed, base').length,
      handlers: [...document.querySelectorAll('*')].flatMap(({ attributes }) => [...attributes])
        .filter(({ name }) => name.startsWith('on')).length,
      links: [...document.querySelectorAll('a')].map(({ protocol }) => protocol),
    }))
    assert.equal(found.attacked, undefined)
    assert.equal(found.elements, 1, 'the page’s own script')
    assert.equal(found.handlers, 0)
    assert.ok(found.links.every((protocol) => protocol === 'https:'), found.links.join())
  }
  await shoot(page, 'attacks')
})

test('the page’s policy is strict, and its files are its own', { timeout }, async (t) => {
  const attacked = await openDashboard(t, browser, { allowed: [/requires 'TrustedHTML' assignment/] })
  // What an attack would have to do.
  assert.equal(await attacked.evaluate(() => {
    try {
      document.createElement('div').innerHTML = '<b>'
      return 'done'
    } catch (error) {
      return error.name
    }
  }), 'TypeError')
  const answer = await fetch(`${relay}/dashboard/`)
  const policy = answer.headers.get('content-security-policy')
  for (const directive of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"]) {
    assert.ok(policy.includes(directive), `${directive}: ${policy}`)
  }
  assert.ok(!policy.includes('unsafe'))
  const page = await answer.text()
  const files = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => new URL(file, `${relay}/dashboard/`))
  assert.ok(files.length >= 3)
  for (const file of files) {
    assert.equal(file.origin, new URL(relay).origin)
    const got = await fetch(file)
    assert.equal(got.status, 200, file.href)
    assert.match(got.headers.get('cache-control'), /immutable/, file.href)
    assert.equal(got.headers.get('x-content-type-options'), 'nosniff')
  }
  // Relative, so that it works behind a proxy that adds a prefix.
  const moved = await fetch(`${relay}/dashboard?session=/x`, { redirect: 'manual' })
  assert.equal(moved.headers.get('location'), 'dashboard/?session=/x')
  assert.equal((await fetch(`${relay}/dashboard/../../Cargo.toml`)).status, 404)
  assert.equal((await fetch(`${relay}/dashboard/%2e%2e%2fwidget%2floader.js`)).status, 404)
})

const AXE = await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8')

/** No violation of WCAG 2.2 A and AA, as far as axe can tell. */
async function isAccessible(page, what) {
  await page.evaluate(AXE)
  const found = await page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
    const { violations, passes } = await axe.run(document, { runOnly: tags })
    return { passes: passes.length, violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`) }
  })
  assert.ok(found.passes > 5, 'axe has looked')
  assert.deepEqual(found.violations, [], what)
}

for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of [[1280, 800], [390, 844]]) {
    test(`axe finds nothing: ${colorScheme}, ${width} pixels wide`, { timeout }, async (t) => {
      const options = { colorScheme, viewport: { width, height } }
      const empty = await openDashboard(t, browser, { context: options })
      await empty.getByLabel('Token').waitFor()
      await isAccessible(empty, 'signing in')

      const conversation = await openConversation()
      await sql(`update conversations set priority = 'urgent', status = 'pending' where id = '${conversation}'`)
      await addMessages(conversation, 2, `'see https://example.com/' || n`)
      await addMessages(conversation, 1, `'an agent’s'`, 'agent')
      await addMessages(conversation, 1, `'the assistant’s'`, 'ai')
      await addMessages(conversation, 1, `'the system’s'`, 'system')
      const page = await openDashboard(t, browser, { claims: agentClaims(), context: options })
      await isAccessible(page, 'the list')
      await shoot(page, `list-${colorScheme}-${width}`)
      await openInList(page, conversation)
      await isAccessible(page, 'a conversation')
      await shoot(page, `conversation-${colorScheme}-${width}`)
      const details = page.getByRole('button', { name: 'Details', exact: true })
      if ((await details.getAttribute('aria-expanded')) === 'false') await details.click()
      await page.locator('#details').waitFor()
      await isAccessible(page, 'the details')
      await shoot(page, `details-${colorScheme}-${width}`)
    })
  }
}

test('everything can be reached and done by keys, and what changes is told', { timeout }, async (t) => {
  const conversation = await openConversation()
  await sql(`update conversations set customer_name = 'Key ${randomUUID().slice(0, 8)}' where id = '${conversation}'`)
  await addMessages(conversation, 2)
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const reached = new Set()
  for (let step = 0; step < 12; step += 1) {
    await page.keyboard.press('Tab')
    reached.add(await page.evaluate(() => document.activeElement.closest('label')?.textContent.slice(0, 8)
      ?? document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent))
    if (await page.evaluate(() => document.activeElement.getAttribute('role') === 'listbox')) break
  }
  assert.ok([...reached].some((name) => name.startsWith('Search')), [...reached].join())
  const activeRow = () => page.evaluate(() => document.activeElement.getAttribute('aria-activedescendant'))
  await eventually(async () => (await activeRow()) === `row-${conversation}`, 'the latest conversation')
  await page.keyboard.press('ArrowDown')
  assert.notEqual(await activeRow(), `row-${conversation}`)
  await page.keyboard.press('Home')
  await page.keyboard.press('Enter')
  await page.locator('.messages[aria-busy=false]').waitFor()
  assert.equal(await rowOf(page, conversation).getAttribute('aria-selected'), 'true')
  const log = page.getByRole('log')
  assert.equal(await log.getAttribute('aria-live'), 'polite')
  assert.equal(await log.getAttribute('aria-relevant'), 'additions')
  await writeAs(visitorClaims(conversation), conversation, 'told to a screen reader')
  await eventually(async () => /told to a screen reader/.test(await log.textContent()), 'within the log')
})
