// Who is there.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Arrivals, connect, feature } from './support.js'

/** Joins with presence; `states` gets every sync, as key -> names. */
async function attend(client, room, key) {
  const channel = client.channel(room, { config: { presence: { key } } })
  const [states, statuses] = [new Arrivals(), new Arrivals()]
  channel.on('presence', { event: 'sync' }, () => {
    const state = Object.entries(channel.presenceState())
    states.push(Object.fromEntries(state.map(([who, metas]) => [who, metas.map(({ name }) => name)])))
  })
  channel.subscribe((status) => statuses.push(status))
  assert.deepEqual(await statuses.of(1), ['SUBSCRIBED'])
  return { channel, states }
}

/** Waits until a sync shows exactly this. */
async function shows({ states }, wanted) {
  const text = JSON.stringify(wanted)
  for (let seen = 0; JSON.stringify(states.all.at(-1)) !== text;) {
    seen = states.all.length
    await states.of(seen + 1)
  }
}

feature('presence: state, join, change and leave', {}, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const [annClient, bobClient] = [await connect(t, vsn), await connect(t, vsn)]
  const ann = await attend(annClient, room, 'ann')
  assert.equal(await ann.channel.track({ name: 'Ann' }), 'ok')
  await shows(ann, { ann: ['Ann'] })
  const bob = await attend(bobClient, room, 'bob')
  await shows(bob, { ann: ['Ann'] })
  assert.equal(await bob.channel.track({ name: 'Bob' }), 'ok')
  await shows(ann, { ann: ['Ann'], bob: ['Bob'] })
  await bob.channel.track({ name: 'Bobby' })
  await shows(ann, { ann: ['Ann'], bob: ['Bobby'] })
  assert.equal(await bob.channel.untrack(), 'ok')
  await shows(ann, { ann: ['Ann'] })
})
