import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { messageId, newClientKey, sha1 } from '../src/ids.js'

test('the digest is that of SHA-1, for every length around the ends of blocks', () => {
  for (let length = 0; length < 300; length += 1) {
    const message = randomBytes(length)
    assert.equal(Buffer.from(sha1(message)).toString('hex'), createHash('sha1').update(message).digest('hex'), `${length}`)
  }
})

test("a message's id is the one that the database makes", () => {
  // select campfire.message_id('b7fde0a2-6a57-4f3c-9d7e-0f3b7c1d2e4f', '11111111-2222-4333-8444-555555555555')
  const [key, conversation] = ['11111111-2222-4333-8444-555555555555', 'b7fde0a2-6a57-4f3c-9d7e-0f3b7c1d2e4f']
  const digest = createHash('sha1').update(Buffer.from(conversation.replaceAll('-', ''), 'hex')).update(key).digest('hex')
  const id = messageId(key, conversation)
  assert.equal(id, messageId(key.toUpperCase(), conversation.toUpperCase()))
  assert.equal(id.slice(0, 8), digest.slice(0, 8))
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  // RFC 9562, appendix A.4.
  assert.equal(messageId('www.example.com', '6ba7b810-9dad-11d1-80b4-00c04fd430c8'), '2ed6657d-e927-568b-95e1-2665a8aea6a2')
})

test('keys are random uuids', () => {
  const keys = new Set(Array.from({ length: 100 }, newClientKey))
  assert.equal(keys.size, 100)
  for (const key of keys) assert.match(key, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
})
