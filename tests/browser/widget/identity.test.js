// Visitors who have logged in: what a device knows of them before they write on it.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { answer, identityOf, launch, newIdentitySecret, newVisitor, openSite, shoot, sql, Tab } from './support.js'

const LIMIT = { timeout: 300_000 }

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const conversationsOf = (customer) => sql(`select count(*) from conversations c join visitors v on v.id = c.visitor_id
  where v.external_id = '${customer}'`)

/** The page's answers of POST /api/widget/auth, by status. */
function watchAuth(tab) {
  const statuses = []
  tab.page.on('response', (response) => {
    if (response.url().endsWith('/api/widget/auth') && response.request().method() === 'POST') statuses.push(response.status())
  })
  return statuses
}

test('what is unread shows on a new device before the chat is opened, and is read there', LIMIT, async (t) => {
  const customer = randomUUID()
  const identity = identityOf(await newIdentitySecret(), { sub: customer })
  const url = await openSite(t)
  const laptop = await Tab.open(t, await newVisitor(t, browser), url)
  await laptop.call('identify', identity)
  await laptop.open()
  await laptop.say('Where is my order?')
  await laptop.sent()
  const conversation = await laptop.conversation()
  await laptop.page.close()
  for (const text of ['On its way.', 'Tomorrow, I think.']) await answer(conversation, text)

  const phone = await Tab.open(t, await newVisitor(t, browser), url)
  const statuses = watchAuth(phone)
  await phone.call('identify', identity)
  await phone.until(() => phone.unread(), (count) => count === 2, 'both are unread')
  assert.equal(await phone.page.title(), '(2) Shop')
  await phone.connected()
  await answer(conversation, 'Yes, tomorrow.')
  await phone.until(() => phone.unread(), (count) => count === 3, 'what comes then, too')
  await shoot(phone.page, 'unread-on-a-new-device')
  assert.deepEqual(statuses, [200])
  assert.equal(await phone.kept(), null, 'nothing is kept before the first message here')
  await phone.open()
  await phone.shows('Where is my order?', 'On its way.', 'Tomorrow, I think.', 'Yes, tomorrow.')
  await phone.until(() => phone.unread(), (count) => count === 0, 'read')
  assert.equal(await conversationsOf(customer), '1')
})

test('who logs in and writes nothing begins no conversation, however often the page says who it is', LIMIT, async (t) => {
  const customer = randomUUID()
  const identity = identityOf(await newIdentitySecret(), { sub: customer })
  const tab = await Tab.open(t, await newVisitor(t, browser), await openSite(t))
  const statuses = watchAuth(tab)
  // As React's StrictMode does.
  await tab.page.evaluate((identity) => {
    campfire('identify', identity)
    campfire('identify', identity)
  }, identity)
  await tab.until(() => statuses.length, (count) => count > 0, 'it is looked up')
  await tab.until(() => tab.events('connection'), (states) => states.at(-1)?.state === 'idle', 'idle')
  await tab.open()
  assert.ok(statuses.every((status) => status === 204), `${statuses}`)
  assert.equal(await sql(`select count(*) from visitors where external_id = '${customer}'`), '0')
  assert.deepEqual(await tab.events('error'), [])
  await tab.say('now I do')
  await tab.sent()
  await tab.shows('now I do')
  assert.equal(await conversationsOf(customer), '1')
})

test('a look-up that fails is made again', LIMIT, async (t) => {
  const customer = randomUUID()
  const identity = identityOf(await newIdentitySecret(), { sub: customer })
  const url = await openSite(t)
  const laptop = await Tab.open(t, await newVisitor(t, browser), url)
  await laptop.call('identify', identity)
  await laptop.open()
  await laptop.say('hello')
  await laptop.sent()
  const conversation = await laptop.conversation()
  await laptop.page.close()
  await answer(conversation, 'hello!')

  const phone = await Tab.open(t, await newVisitor(t, browser), url)
  let tries = 0
  await phone.page.route('**/api/widget/auth', (route) => {
    tries += 1
    return tries === 1 ? route.abort() : route.continue()
  })
  await phone.call('identify', identity)
  await phone.until(() => phone.unread(), (count) => count === 1, 'unread')
  assert.equal(tries, 2)
})
