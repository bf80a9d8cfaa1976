import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Memory } from '../src/memory.js'

class Store {
  readonly items = new Map<string, string>()
  getItem(key: string) { return this.items.get(key) ?? null }
  setItem(key: string, value: string) { this.items.set(key, value) }
  removeItem(key: string) { this.items.delete(key) }
}

const make = (shared: Store | null = new Store(), own: Store | null = new Store()) =>
  new Memory('https://chat.example/base', 'org', shared, own)

test('what is kept is found again, and forgotten', () => {
  const [shared, own] = [new Store(), new Store()]
  const memory = make(shared, own)
  assert.equal(memory.load(), null)
  memory.keep({ conversationId: 'c', token: 't' })
  memory.keepDrafts([{ key: 'k', content: 'text', at: 1 }])
  assert.deepEqual(make(shared, own).load(), { conversationId: 'c', token: 't' })
  assert.deepEqual(make(shared, own).loadDrafts(), [{ key: 'k', content: 'text', at: 1 }])
  assert.deepEqual(make(shared).loadDrafts(), [], 'another tab has its own')
  memory.forget()
  assert.equal(shared.items.size + own.items.size, 0)
})

test('no drafts leave nothing behind', () => {
  const own = new Store()
  const memory = make(new Store(), own)
  memory.keepDrafts([{ key: 'k', content: 'text', at: 1 }])
  memory.keepDrafts([])
  assert.equal(own.items.size, 0)
})

test('what somebody else wrote there is not taken for a conversation', () => {
  for (const text of ['', 'nonsense', '[]', '"text"', '{"token":1,"conversationId":"c"}', '{"conversationId":"c"}', 'null']) {
    const shared = new Store()
    shared.setItem('campfire:chat.example:org', text)
    assert.equal(make(shared).load(), null, text)
  }
  const own = new Store()
  own.setItem('campfire:chat.example:org:unsent', '[null, {"key": "k"}, {"key":"k","content":"c","at":"x"}]')
  assert.deepEqual(make(new Store(), own).loadDrafts(), [])
})

test('a storage that throws is as good as none', () => {
  const throwing = { getItem() { throw new Error('no') }, setItem() { throw new Error('no') }, removeItem() { throw new Error('no') } }
  const memory = new Memory('https://chat.example', 'org', throwing, throwing)
  memory.keep({ conversationId: 'c', token: 't' })
  memory.forget()
  assert.equal(memory.load(), null)
  assert.deepEqual(make(null, null).load(), null)
})

test('events of other keys are not about it', () => {
  const memory = make()
  assert.equal(memory.isAbout({ key: 'campfire:chat.example:org' }), true)
  assert.equal(memory.isAbout({ key: null }), true)
  assert.equal(memory.isAbout({ key: 'campfire:chat.example:org:unsent' }), false)
})
