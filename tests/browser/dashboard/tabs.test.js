// One agent at several places at once.
import { after, before, test } from 'node:test'
import {
  agentClaims, DEADLINE_MS, eventually, isLive, isUnread, launch, openConversation, openDashboard, openInList, sign, sqlAs,
  organization, agent, visitorClaims, writeAs,
} from './support.js'

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 2

test('what one tab has read, another one of the same browser learns at once', { timeout }, async (t) => {
  const conversation = await openConversation()
  const first = await openDashboard(t, browser, { claims: agentClaims() })
  const second = await first.context().newPage()
  await second.addInitScript((token) => sessionStorage.setItem('campfire:token', token), sign(agentClaims()))
  // Not by asking from time to time.
  await second.route('**/api/dashboard/unread?*', (route) => route.fulfill({ json: { conversations: [] } }))
  await second.goto(first.url())
  await isLive(second)
  for (const content of ['one', 'two']) await writeAs(visitorClaims(conversation), conversation, content)
  for (const page of [first, second]) await isUnread(page, conversation, 2)
  await first.bringToFront()
  await openInList(first, conversation)
  for (const page of [first, second]) await isUnread(page, conversation, 0)
})

test('what another device has read, a page learns of the relay, also after it was away', { timeout }, async (t) => {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims(), allowed: [/Failed to load resource/, /net::ERR/, /WebSocket/] })
  const read = () => sqlAs(agentClaims(), `insert into read_receipts
    (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
    select '${conversation}', '${organization}', 'agent', '${agent}', id from messages
    where conversation_id = '${conversation}' order by created_at desc limit 1
    on conflict (conversation_id, reader_id) do update set last_read_message_id = excluded.last_read_message_id, read_at = now()`)
  for (const content of ['one', 'two']) await writeAs(visitorClaims(conversation), conversation, content)
  await isUnread(page, conversation, 2)
  await read()
  await isUnread(page, conversation, 0)
  await writeAs(visitorClaims(conversation), conversation, 'three')
  await isUnread(page, conversation, 1)
  await page.context().setOffline(true)
  await page.locator('.desk[data-live=false]').waitFor({ timeout: DEADLINE_MS })
  await read()
  await page.context().setOffline(false)
  await eventually(async () => (await page.locator('.desk').getAttribute('data-live')) === 'true', 'live')
  await isUnread(page, conversation, 0)
})
