// web/client on a runtime's own WebSocket: what the stock client does not get over, it does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '@supabase/supabase-js'
import { createCampfire } from '../../../web/client/dist/src/index.js'
import { Arrivals, Cable } from '../conformance/support.js'
import { agentClaims, apiKey, openConversation, organization, sign, writeAs } from '../support.js'

const runtime = process.env.CAMPFIRE_RUNTIME

for (const vsn of ['1.0.0', '2.0.0']) {
  test(`${runtime}, ${vsn}: a relay that was away is found again, and nothing is missing`, { timeout: 60_000 }, async (t) => {
    const cable = await Cable.lay(t)
    const client = createClient(cable.url, apiKey, { realtime: { vsn, reconnectAfterMs: () => 50 } })
    const campfire = createCampfire(client, {
      getToken: () => sign(agentClaims()), onIncomplete: (_, reason) => assert.fail(reason),
      backoff: { minMs: 50, maxMs: 1_000 },
    })
    t.after(async () => {
      await campfire.close()
      await client.realtime.disconnect()
    })
    const conversation = await openConversation()
    const [events, statuses] = [new Arrivals(), new Arrivals()]
    campfire.channel(`org:${organization}:conv:${conversation}`)
      .on('message:created', (event) => events.push(event))
      .subscribe((status) => statuses.push(status))
    await statuses.find((status) => status === 'joined')
    await writeAs(agentClaims(), conversation, 'before')
    await events.of(1)
    cable.isDead = true
    cable.cut()
    await writeAs(agentClaims(), conversation, 'meanwhile')
    // The second try is the helper's, where the stock client makes none.
    await cable.refused.of(2)
    cable.isDead = false
    await writeAs(agentClaims(), conversation, 'after')
    assert.deepEqual((await events.of(3)).map(({ payload }) => payload.content), ['before', 'meanwhile', 'after'])
  })
}
