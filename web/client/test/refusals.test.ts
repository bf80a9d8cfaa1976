import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { type Retry, retryOf } from '../src/refusals.js'
import { at, NAME, setUp } from './socket.js'

test('the codes are those of the documentation', async () => {
  // From dist/test, where this runs.
  const text = await readFile(new URL('../../../../docs/protocol.md', import.meta.url), 'utf8')
  const [, table] = text.split('| code | text | retry |\n')
  assert.ok(table, 'the table of refusals')
  const documented = new Map<string, Set<string>>()
  for (const line of table.slice(0, table.indexOf('\n\n')).split('\n')) {
    const [, code, retry] = /^\| `(\w+)` \|.*\| (never|token|later) \|$/.exec(line) ?? []
    if (code && retry) documented.set(code, (documented.get(code) ?? new Set()).add(retry))
  }
  assert.ok(documented.size > 20)
  const helpsMore: Retry[] = ['token', 'later', 'never']
  for (const [code, retries] of documented) {
    assert.equal(retryOf(`${code}: text`), helpsMore.find((retry) => retries.has(retry)), code)
  }
  assert.equal(retryOf('Role not allowed: …'), 'token')
  assert.equal(retryOf('constructor'), 'token')
})

function refusing(t: Parameters<typeof setUp>[0]) {
  let tokens = 0
  const { campfire, opened } = setUp(t, { getToken: () => `token ${(tokens += 1)}` })
  const statuses: string[] = []
  const channel = campfire.channel(NAME).subscribe((status, error) => statuses.push(`${status} ${error?.message ?? ''}`))
  const refuse = async (reason: string) => {
    const socket = await opened
    const [joinRef, ref, topic] = await socket.next('phx_join')
    socket.say(joinRef, ref, topic, 'phx_reply', { status: 'error', response: { reason } })
    return socket
  }
  return { channel, statuses, refuse }
}

test('what another token does not help is tried again with the same one', async (t) => {
  const { statuses, refuse } = refusing(t)
  const socket = await refuse('SnapshotUnavailable: not now')
  assert.deepEqual(statuses, ['joining ', 'refused SnapshotUnavailable: not now'])
  const payload = await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.equal(payload.access_token, 'token 1')
  assert.deepEqual(statuses.slice(2), ['joined '])
})

test('what is refused for good is not tried again, unless the application does', async (t) => {
  const { channel, statuses, refuse } = refusing(t)
  const socket = await refuse('InvalidTopic: no')
  // Longer than the longest wait between tries.
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.deepEqual(socket.sent.filter(([, , , event]) => event === 'phx_join'), [])
  assert.deepEqual(statuses, ['joining ', 'refused InvalidTopic: no'])
  await channel.unsubscribe()
  channel.subscribe()
  await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.equal(channel.status, 'joined')
})
