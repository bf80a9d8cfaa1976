// Several helpers on one stock client: a page whose parts each make their own, or a component that is mounted anew
// before its old self is gone.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RealtimeClient } from '@supabase/realtime-js'
import { createCampfire } from '../src/index.js'

/** A stock client that never gets as far as a socket: what is looked at is its token. */
function stock(accessToken?: () => Promise<string | null>): RealtimeClient {
  return new RealtimeClient('ws://relay.test/realtime/v1', {
    params: { apikey: 'key' }, transport: class {} as any, ...(accessToken && { accessToken }),
  })
}

const helper = (client: RealtimeClient, getToken: () => string | Promise<string>) =>
  createCampfire(client, { getToken, onIncomplete: () => assert.fail('nothing is missing') })

/** What the client shows after it has asked again, as it does on every heartbeat. */
async function shown(client: RealtimeClient): Promise<string | null> {
  await client.setAuth()
  return client.accessTokenValue
}

const own = async () => "the application's"

for (const [name, original] of [['a client with a token of its own', own], ['a client without', undefined]] as const) {
  test(`${name}: the first helper is closed first, and the second's token stays`, async () => {
    const client = stock(original)
    const first = helper(client, () => 'first')
    assert.equal(await shown(client), 'first')
    const second = helper(client, () => 'second')
    await first.close()
    assert.equal(await shown(client), 'second')
    await second.close()
    assert.equal(client.accessToken, original ?? null)
    assert.equal(client.stateChangeCallbacks.message.length, 0)
  })

  test(`${name}: the second helper is closed first, and the first's token is back at once`, async () => {
    const client = stock(original)
    const first = helper(client, () => 'first')
    const second = helper(client, () => 'second')
    assert.equal(await shown(client), 'second')
    await second.close()
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(client.accessTokenValue, 'first')
    await first.close()
    assert.equal(client.accessToken, original ?? null)
  })

  test(`${name}: three helpers end in every order, and the client is as it was`, async () => {
    for (const order of [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]) {
      const client = stock(original)
      const helpers = ['0', '1', '2'].map((token) => helper(client, () => token))
      const left = new Set([0, 1, 2])
      for (const index of order) {
        await helpers[index]!.close()
        left.delete(index)
        // The newest of those that are left.
        if (left.size > 0) assert.equal(await shown(client), String(Math.max(...left)), `${order}`)
      }
      assert.equal(client.accessToken, original ?? null, `${order}`)
    }
  })
}

test('a helper that is closed twice takes nothing from one that was made in between', async () => {
  const client = stock(own)
  const first = helper(client, () => 'first')
  await first.close()
  helper(client, () => 'second')
  await first.close()
  assert.equal(await shown(client), 'second')
})

test('a helper made while another closes is not undone by it', async () => {
  const client = stock(own)
  const first = helper(client, () => 'first')
  const closing = first.close()
  helper(client, () => 'second')
  await closing
  assert.equal(await shown(client), 'second')
})

test('a source of tokens that the application has set since stays when the helper goes', async () => {
  const client = stock()
  const campfire = helper(client, () => 'helper')
  const later = async () => 'later'
  client.accessToken = later
  await campfire.close()
  assert.equal(client.accessToken, later)
  assert.equal(await shown(client), 'later')
})

test("a source that the application has wrapped around the helper's falls back to what was before", async () => {
  const client = stock(own)
  const campfire = helper(client, () => 'helper')
  const inner = client.accessToken!
  client.accessToken = async () => `wrapped ${await inner()}`
  assert.equal(await shown(client), 'wrapped helper')
  await campfire.close()
  assert.equal(await shown(client), "wrapped the application's")
})
