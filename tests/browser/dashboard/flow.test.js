// Agents at work: what visitors write, what agents answer, and what other agents see of it. The page is the one that the
// relay serves.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect, subscribe } from '../../clients/support.js'
import {
  addAgent, addMessages, agent, agentClaims, claimsOf, DEADLINE_MS, eventually, isUnread, launch, openConversation,
  openDashboard, openInList, organization, relay, rowOf, shoot, shownMessages, sign, sql, sqlAs, unreadOf,
  visitorClaims, writeAs,
} from './support.js'

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 2

const reply = async (page, text) => {
  await page.getByLabel('Reply').fill(text)
  await page.keyboard.press('Enter')
  // Before it is drawn at all, nothing is pending either.
  await page.locator('.message', { hasText: text }).last().waitFor({ timeout: DEADLINE_MS })
}

test('what a visitor writes comes to the top of the list, and an answer goes back', { timeout }, async (t) => {
  const older = await openConversation()
  const conversation = await openConversation()
  await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const visitor = await connect(t, '2.0.0', visitorClaims(conversation))
  const widget = await subscribe(visitor, `org:${organization}:widget:${conversation}`)

  await writeAs(visitorClaims(conversation), conversation, 'Is anybody there?')
  await isUnread(page, conversation, 1)
  const first = () => page.locator('.row[aria-posinset="1"]').getAttribute('data-id')
  await eventually(async () => (await first()) === conversation, 'the conversation is the first')
  assert.match(await rowOf(page, conversation).textContent(), /Is anybody there\?/)

  await openInList(page, conversation)
  await isUnread(page, conversation, 0)
  await reply(page, 'Yes, hello!')
  // At once, before anybody has answered.
  assert.deepEqual(await shownMessages(page), ['Is anybody there?', 'Yes, hello!'])
  const received = () => widget.events.filter(({ event }) => event === 'message:created').map(({ payload }) => payload.content)
  await eventually(async () => received().length === 2, 'the visitor has both')
  assert.deepEqual(received(), ['Is anybody there?', 'Yes, hello!'])
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'the answer is stored')
  assert.deepEqual(await shownMessages(page), ['Is anybody there?', 'Yes, hello!'])

  await writeAs(visitorClaims(older), older, 'Me too')
  await eventually(async () => (await first()) === older, 'the other conversation moves up')
  await shoot(page, 'conversation')
})

test('a reply that is not answered is one message, however often it is sent', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims(), allowed: [/Failed to load resource/] })
  await openInList(page, conversation)
  let tries = 0
  const posts = (url) => url.pathname.endsWith('/messages')
  await page.route(posts, async (route) => {
    if (route.request().method() !== 'POST') return route.continue()
    tries += 1
    // Lost on the way there, then on the way back.
    if (tries === 1) return route.abort()
    if (tries === 2) {
      await route.fetch()
      return route.abort()
    }
    return route.continue()
  })
  await reply(page, 'once')
  await reply(page, 'and then')
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'both are stored')
  assert.ok(tries >= 3, `${tries} requests`)
  assert.deepEqual(await shownMessages(page), ['once', 'and then'])
  assert.equal(await sql(`select string_agg(content, ',' order by created_at) from messages where conversation_id = '${conversation}'`), 'once,and then')
  await page.reload()
  await page.locator('.messages[aria-busy=false]').waitFor()
  await eventually(async () => (await shownMessages(page)).length === 2, 'the same after a reload')
})

test('a reply that is refused says why, and can be sent again or discarded', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims(), allowed: [/Failed to load resource/] })
  await openInList(page, conversation)
  let isRefusing = true
  await page.route((url) => url.pathname.endsWith('/messages'), (route) => {
    if (!isRefusing || route.request().method() !== 'POST') return route.continue()
    const error = { code: 'invalid', message: 'No more than so much', hint: '' }
    return route.fulfill({ status: 422, json: { error } })
  })
  await reply(page, 'first')
  await reply(page, 'second')
  await eventually(async () => (await page.locator('.message.failed').count()) === 2, 'both are refused')
  assert.match(await page.locator('.message.failed').first().textContent(), /No more than so much/)
  await shoot(page, 'refused')
  isRefusing = false
  await page.locator('.message.failed').first().getByRole('button', { name: 'Retry' }).click()
  await eventually(async () => (await page.locator('.message.failed').count()) === 1, 'one is sent')
  await page.locator('.message.failed').getByRole('button', { name: 'Discard' }).click()
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'the other is gone')
  assert.deepEqual(await shownMessages(page), ['first'])
})

test('agents see who else views a conversation, who is online, and what others change', { timeout }, async (t) => {
  const conversation = await openConversation()
  const grace = await addAgent('Grace')
  const [ada, other] = [
    await openDashboard(t, browser, { claims: agentClaims() }),
    await openDashboard(t, browser, { claims: claimsOf(grace) }),
  ]
  await openInList(ada, conversation)
  assert.equal(await ada.locator('.viewers').count(), 0, 'one does not view with oneself')
  await openInList(other, conversation)
  await eventually(async () => /Grace/.test(await ada.locator('.viewers').textContent()), 'Grace is seen')
  assert.match(await ada.locator('.online').getAttribute('aria-label'), /Grace/)

  await other.getByRole('button', { name: 'Assign to me' }).click()
  await other.getByLabel('Status').last().selectOption('pending')
  await other.getByLabel('Priority').last().selectOption('urgent')
  const row = rowOf(ada, conversation)
  await eventually(async () => /pending/.test(await row.textContent()), 'the status')
  await eventually(async () => /urgent/.test(await row.textContent()), 'the priority')
  await eventually(async () => /Grace/.test(await row.textContent()), 'the assignee')
  await eventually(
    async () => (await ada.locator('#details').getByLabel('Assignee').inputValue()) === grace, 'the assignee in the details',
  )
  assert.equal(
    await sql(`select status || ' ' || priority || ' ' || assignee_id from conversations where id = '${conversation}'`),
    `pending urgent ${grace}`,
  )
  await shoot(ada, 'viewers')

  // What no longer matches leaves the list, and comes back.
  await ada.locator('.filters').getByLabel('Status').selectOption('pending')
  await row.waitFor()
  await other.getByLabel('Status').last().selectOption('resolved')
  await row.waitFor({ state: 'detached' })
  await other.getByLabel('Status').last().selectOption('pending')
  await row.waitFor()

  await other.context().close()
  await eventually(async () => (await ada.locator('.viewers').count()) === 0, 'Grace has gone')
  await eventually(
    async () => !/Grace/.test(await ada.locator('.online').getAttribute('aria-label')), 'Grace is offline',
  )
})

test('unread is each agent’s own, and the same in an agent’s two tabs', { timeout }, async (t) => {
  const conversation = await openConversation()
  const lin = await addAgent('Lin')
  const first = await openDashboard(t, browser, { claims: agentClaims() })
  const second = await openDashboard(t, browser, { claims: agentClaims() })
  const other = await openDashboard(t, browser, { claims: claimsOf(lin) })
  for (const content of ['one', 'two', 'three']) await writeAs(visitorClaims(conversation), conversation, content)
  // An agent's and the system's do not count; the AI's do.
  await addMessages(conversation, 1, `'from the system'`, 'system')
  await addMessages(conversation, 1, `'from the AI'`, 'ai')
  for (const page of [first, second, other]) await isUnread(page, conversation, 4)
  await openInList(first, conversation)
  for (const page of [first, second]) await isUnread(page, conversation, 0)
  assert.equal(await unreadOf(other, conversation), 4)
  await writeAs(visitorClaims(conversation), conversation, 'four')
  await isUnread(other, conversation, 5)
  for (const page of [first, second]) await isUnread(page, conversation, 0)
  // The API says the same.
  await other.reload()
  await isUnread(other, conversation, 5)
  await second.reload()
  await isUnread(second, conversation, 0)
  assert.match(await other.title(), /^\(\d+\)/)
})

test('a visitor’s typing shows and ends, and the visitor’s reading is seen', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const visitor = await connect(t, '2.0.0', visitorClaims(conversation))
  const { channel } = await subscribe(visitor, `org:${organization}:widget:${conversation}`)
  const typed = []
  channel.on('broadcast', { event: 'typing:start' }, ({ meta }) => typed.push(meta.sender))
  await openInList(page, conversation)
  const line = page.locator('.typing')
  await eventually(async () => {
    await channel.send({ type: 'broadcast', event: 'typing:start', payload: {} })
    return /Vera Visitor is typing/.test(await line.textContent())
  }, 'typing shows')
  await shoot(page, 'typing')
  // Nobody says that it ended: the relay does.
  await eventually(async () => (await line.textContent()) === '', 'typing ends')

  await page.getByLabel('Reply').pressSequentially('I am')
  await eventually(async () => typed.length > 0, 'the visitor sees that an agent types')
  assert.deepEqual(typed[0], { type: 'agent', id: null })
  await page.keyboard.press('Enter')
  await page.locator('.message:not(.pending)', { hasText: 'I am' }).waitFor({ timeout: DEADLINE_MS })
  assert.equal(await page.locator('.state').count(), 0, 'not seen yet')
  await sqlAs(visitorClaims(conversation), `insert into read_receipts
    (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
    select '${conversation}', '${organization}', 'visitor', '${conversation}', id from messages
    where conversation_id = '${conversation}'`)
  await eventually(async () => /Seen/.test(await page.locator('.message').last().textContent()), 'seen')
})

test('a search finds, a link opens, and the keyboard does both', { timeout }, async (t) => {
  const conversation = await openConversation()
  await sql(`update conversations set customer_name = 'Needle Haystack' where id = '${conversation}'`)
  await addMessages(conversation, 3)
  for (let index = 0; index < 3; index += 1) await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  await page.keyboard.press('/')
  await page.keyboard.type('needle')
  await eventually(async () => (await page.locator('.row').count()) === 1, 'one is found')
  await page.locator('.rows').focus()
  await page.keyboard.press('Enter')
  await page.locator('.messages[aria-busy=false]').waitFor()
  assert.deepEqual(await shownMessages(page), ['message 1', 'message 2', 'message 3'])
  assert.match(page.url(), new RegExp(`#/${conversation}$`))
  // The agent can write at once.
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Reply')
  const linked = await openDashboard(t, browser, { claims: agentClaims(), path: `#/${conversation}` })
  await eventually(async () => (await shownMessages(linked)).length === 3, 'the link shows it')
})

test('without a token an agent pastes one, and signs out again', { timeout }, async (t) => {
  const page = await openDashboard(t, browser, { allowed: [/Failed to load resource/] })
  await page.getByLabel('Token').fill('nonsense')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.locator('.error').waitFor()
  await shoot(page, 'sign-in')
  await page.getByLabel('Token').fill(sign(agentClaims()))
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
  assert.equal(page.url(), `${relay}/dashboard/`, 'no token in the address')
  assert.deepEqual(await page.context().cookies(), [])
  assert.equal(await page.evaluate(() => localStorage.length), 0)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('Token').waitFor()
  assert.equal(await page.evaluate(() => sessionStorage.length), 0)
})

test('a pasted token that has ended is asked for again, and the agent goes on where it was', { timeout }, async (t) => {
  const conversation = await openConversation()
  const exp = Math.floor(Date.now() / 1000) + 15
  const page = await openDashboard(t, browser, {
    claims: { ...agentClaims(), exp }, allowed: [/Failed to load resource/],
  })
  await openInList(page, conversation)
  await page.getByLabel('Reply').fill('half a sen')
  await page.getByLabel('Token').waitFor({ timeout: DEADLINE_MS })
  await writeAs(visitorClaims(conversation), conversation, 'meanwhile')
  await page.getByLabel('Token').fill(sign(agentClaims()))
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
  await eventually(async () => (await shownMessages(page)).includes('meanwhile'), 'what came meanwhile')
  assert.equal(await page.getByLabel('Reply').inputValue(), 'half a sen')
})

test('tokens of the application’s endpoint are renewed in time, and the channels stay', { timeout }, async (t) => {
  const conversation = await openConversation()
  const context = await browser.newContext()
  t.after(() => context.close())
  const page = await context.newPage()
  let asked = 0
  await context.route((url) => url.pathname === '/my-session', (route) => {
    asked += 1
    // Short-lived ones: they are replaced at half their life.
    const exp = Math.floor(Date.now() / 1000) + 8
    return route.fulfill({ json: { token: sign({ ...agentClaims(), exp }) } })
  })
  await page.goto(`${relay}/dashboard/?session=/my-session`)
  await page.locator('.desk[data-live=true]').waitFor({ timeout: DEADLINE_MS })
  await openInList(page, conversation)
  await eventually(async () => asked >= 4, 'tokens are renewed')
  // Longer than the first token lived.
  await writeAs(visitorClaims(conversation), conversation, 'after the first token')
  await eventually(async () => (await shownMessages(page)).includes('after the first token'), 'it comes')
  await reply(page, 'with a later token')
  await eventually(async () => (await page.locator('.message.pending').count()) === 0, 'it is stored')
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, 'no token is kept')
})

test('an agent who is deactivated sees nothing more', { timeout }, async (t) => {
  const conversation = await openConversation()
  const gone = await addAgent('Gone')
  const page = await openDashboard(t, browser, { claims: claimsOf(gone), allowed: [/Failed to load resource/] })
  await openInList(page, conversation)
  await sql(`update agents set active = false where user_id = '${gone}'`)
  await writeAs(visitorClaims(conversation), conversation, 'for active agents')
  await page.locator('.desk[data-live=false]').waitFor({ timeout: DEADLINE_MS })
  assert.ok(!(await shownMessages(page)).includes('for active agents'))
  assert.equal(await sql(`select count(*) from agents where user_id = '${agent}' and active`), '1')
})
