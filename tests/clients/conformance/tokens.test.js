// Tokens that are replaced, and that expire.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentClaims, openConversation, organization, sign, writeAs } from '../support.js'
import { anonymous, connect, ends, feature, join, refresh } from './support.js'

/**
 * Claims that are good for three to four seconds and, where a join takes long at the moment, for ten such joins; and
 * what waits until they are not.
 */
async function brief(t, vsn) {
  const began = Date.now()
  await join(await connect(t, vsn), `room:${randomUUID()}`)
  const exp = Math.floor((Date.now() + 10 * (Date.now() - began)) / 1000) + 4
  return [{ ...agentClaims(), exp }, () => sleep(Math.max(0, (exp + 1) * 1000 - Date.now()))]
}

feature('tokens: a new one outlives the first', async (t, vsn) => {
  const conversation = await openConversation()
  const [claims, expiry] = await brief(t, vsn)
  const client = await connect(t, vsn, claims)
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  await refresh(client, agentClaims())
  // Nothing tells that a token would have expired, but the time.
  await expiry()
  await writeAs(agentClaims(), conversation, 'still here')
  const [event] = await conv.events.of(1)
  assert.equal(event.payload.content, 'still here')
})

feature('tokens: one that expires closes its channels and says so', async (t, vsn) => {
  const [claims] = await brief(t, vsn)
  const client = await connect(t, vsn, claims)
  const channels = [await join(client, `org:${organization}`), await join(client, `room:${randomUUID()}`)]
  for (const channel of channels) await ends(channel, /Token has expired/)
  assert.equal(client.realtime.isConnected(), true)
})

feature('tokens: one that is set by hand outlives the join', async (t, vsn) => {
  const conversation = await openConversation()
  const client = anonymous(t, vsn)
  await client.realtime.setAuth(sign(agentClaims()))
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  // Beats and joins are when some releases ask for the token again.
  await join(client, `room:${randomUUID()}`)
  await writeAs(agentClaims(), conversation, 'still here')
  const [event] = await conv.events.of(1)
  assert.equal(event.payload.content, 'still here')
})
