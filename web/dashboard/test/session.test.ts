import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endpointOf, expiryOf, Session, SignedOut } from '../src/session.js'

const NOW = 1_000_000_000_000

const token = (expiresInMs: number, name = '') => {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${encode({ alg: 'HS256' })}.${encode({ exp: (NOW + expiresInMs) / 1000, name })}.signature`
}

function storage() {
  const values = new Map<string, string>()
  return {
    values,
    getItem: (key: string) => values.get(key) ?? null,
    setItem: (key: string, value: string) => void values.set(key, value),
    removeItem: (key: string) => void values.delete(key),
  }
}

test('a token is asked for once, and again a minute before it ends', async () => {
  const given = [token(3_600_000, 'first'), token(7_200_000, 'second')]
  let asked = 0
  const session = new Session(async () => ({ token: given[asked++] }), storage())
  const [one, same] = await Promise.all([session.token(NOW), session.token(NOW)])
  assert.equal(one, given[0])
  assert.equal(same, given[0])
  assert.equal(await session.token(NOW + 3_600_000 - 60_001), given[0])
  assert.equal(asked, 1)
  assert.equal(await session.token(NOW + 3_600_000 - 60_000), given[1])
  assert.equal(asked, 2)
})

test('an endpoint’s token is kept nowhere; what was pasted stays in the tab until it ends', async () => {
  const asked = storage()
  await new Session(async () => ({ token: token(3_600_000) }), asked).token(NOW)
  assert.equal(asked.values.size, 0)

  const pasted = storage()
  const session = new Session(null, pasted)
  await assert.rejects(session.token(NOW), SignedOut)
  session.paste(`  ${token(90_000)}\n`)
  assert.equal(await session.token(NOW), token(90_000))
  // There is no other; it serves to its end.
  assert.equal(await session.token(NOW + 80_000), token(90_000))
  assert.equal(await new Session(null, pasted).token(NOW), token(90_000), 'after a reload')
  await assert.rejects(session.token(NOW + 90_000), SignedOut)
  session.signOut()
  assert.equal(pasted.values.size, 0)
})

test('an endpoint that fails is asked again, and one without a token is told of', async () => {
  const answers: (() => unknown)[] = [() => { throw new Error('down') }, () => ({}), () => ({ token: 'opaque' })]
  const session = new Session(async () => answers.shift()!(), storage())
  await assert.rejects(session.token(NOW), /down/)
  await assert.rejects(session.token(NOW), /without a token/)
  assert.equal(await session.token(NOW), 'opaque')
  assert.equal(expiryOf('opaque'), Infinity)
})

test('a link cannot say on whose behalf an agent writes', () => {
  const page = (query: string) => new URL(`https://chat.example.com/dashboard/${query}`)
  assert.equal(endpointOf('', page('')), null)
  assert.equal(endpointOf('', page('?session=/session')), 'https://chat.example.com/session')
  for (const elsewhere of ['https://evil.example/', '//evil.example/', 'javascript:alert(1)', 'data:,%7B%7D']) {
    assert.equal(endpointOf('', page(`?session=${encodeURIComponent(elsewhere)}`)), null, elsewhere)
  }
  // What the relay's operator set is what counts.
  const written = 'https://app.example.com/session'
  assert.equal(endpointOf(written, page('?session=/other')), written)
  assert.equal(endpointOf('/session', page('')), 'https://chat.example.com/session')
})
