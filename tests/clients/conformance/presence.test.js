// Who is there.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Arrivals, Cable, connect, ends, feature, join, lacks, subscribe } from './support.js'

/** Joins with presence. `states` gets every sync, as key -> names; `news` what joined and left. */
async function attend(client, room, key) {
  const [states, news] = [new Arrivals(), new Arrivals()]
  const names = (metas) => metas.map(({ name }) => name)
  const joined = await join(client, room, { presence: { key } }, (channel) => {
    channel
      .on('presence', { event: 'sync' }, () => {
        const state = Object.entries(channel.presenceState())
        states.push(Object.fromEntries(state.map(([who, metas]) => [who, names(metas)])))
      })
      .on('presence', { event: 'join' }, ({ key: who, newPresences }) => news.push(['join', who, names(newPresences)]))
      .on('presence', { event: 'leave' }, ({ key: who, leftPresences }) => news.push(['leave', who, names(leftPresences)]))
  })
  return { ...joined, states, news }
}

/** Waits until the last sync shows exactly this. */
async function shows({ states }, wanted) {
  const text = JSON.stringify(wanted)
  while (JSON.stringify(states.all.at(-1)) !== text) await states.of(states.all.length + 1)
}

feature('presence: nobody is there', async (t, vsn) => {
  const { states } = await attend(await connect(t, vsn), `room:${randomUUID()}`, 'ann')
  assert.deepEqual(await states.of(1), [{}])
})

feature('presence: come, untrack, leave', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const [annClient, bobClient] = [await connect(t, vsn), await connect(t, vsn)]
  const ann = await attend(annClient, room, 'ann')
  assert.equal(await ann.channel.track({ name: 'Ann' }), 'ok')
  await shows(ann, { ann: ['Ann'] })
  const bob = await attend(bobClient, room, 'bob')
  await shows(bob, { ann: ['Ann'] })
  assert.equal(await bob.channel.track({ name: 'Bob' }), 'ok')
  await shows(ann, { ann: ['Ann'], bob: ['Bob'] })
  assert.equal(await bob.channel.untrack(), 'ok')
  await shows(ann, { ann: ['Ann'] })
  assert.equal(await bob.channel.track({ name: 'Bob again' }), 'ok')
  await shows(ann, { ann: ['Ann'], bob: ['Bob again'] })
  await bobClient.removeChannel(bob.channel)
  await shows(ann, { ann: ['Ann'] })
  assert.deepEqual(ann.news.all, [
    ['join', 'ann', ['Ann']], ['join', 'bob', ['Bob']], ['leave', 'bob', ['Bob']],
    ['join', 'bob', ['Bob again']], ['leave', 'bob', ['Bob again']],
  ])
})

feature('presence: change', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const ann = await attend(await connect(t, vsn), room, 'ann')
  const bob = await attend(await connect(t, vsn), room, 'bob')
  assert.equal(await bob.channel.track({ name: 'Bob' }), 'ok')
  await shows(ann, { bob: ['Bob'] })
  // The same again is no news.
  assert.equal(await bob.channel.track({ name: 'Bob' }), 'ok')
  assert.equal(await bob.channel.track({ name: 'Bobby' }), 'ok')
  await shows(ann, { bob: ['Bobby'] })
  const names = (kind) => ann.news.all.filter(([what]) => what === kind).flatMap(([, , all]) => all)
  assert.deepEqual([names('join'), names('leave')], [['Bob', 'Bobby'], ['Bob']])
}, { without: [lacks.metas] })

feature('presence: two devices of a key, and one is lost', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const cable = await Cable.lay(t)
  const watcher = await attend(await connect(t, vsn), room, 'watcher')
  const phone = await attend(await connect(t, vsn, undefined, { url: cable.url }), room, 'ann')
  const desk = await attend(await connect(t, vsn), room, 'ann')
  await phone.channel.track({ name: 'phone' })
  await shows(watcher, { ann: ['phone'] })
  await desk.channel.track({ name: 'desk' })
  await shows(watcher, { ann: ['phone', 'desk'] })
  cable.end()
  await shows(watcher, { ann: ['desk'] })
}, { without: [lacks.metas] })

feature('presence: seen without listening', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const watcher = await attend(await connect(t, vsn), room, 'watcher')
  const { channel } = await join(await connect(t, vsn), room, { presence: { key: 'ann' } })
  assert.equal(await channel.track({ name: 'Ann' }), 'ok')
  await shows(watcher, { ann: ['Ann'] })
})

feature('presence: track before the join is answered', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const watcher = await attend(await connect(t, vsn), room, 'watcher')
  const { channel, statuses } = subscribe(await connect(t, vsn), room, { presence: { key: 'ann' } })
  const tracked = channel.track({ name: 'Ann' })
  assert.deepEqual(statuses.all, [])
  assert.equal(await tracked, 'ok')
  await shows(watcher, { ann: ['Ann'] })
})

feature('presence: what is no object is refused', async (t, vsn) => {
  const { channel, states } = await attend(await connect(t, vsn), `room:${randomUUID()}`, 'ann')
  assert.equal(await channel.track('text'), 'error')
  assert.equal(await channel.track({ name: 'Ann' }), 'ok')
  await states.find((state) => 'ann' in state)
}, { without: [lacks.pushErrors] })

feature('presence: too many calls close the channel', async (t, vsn) => {
  const client = await connect(t, vsn)
  const attendant = await attend(client, `room:${randomUUID()}`, 'ann')
  for (let n = 0; n <= 20; n += 1) void attendant.channel.track({ n })
  await ends(attendant, /Client presence rate limit exceeded/)
  assert.equal(client.realtime.isConnected(), true)
})
