import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConversationList, UNFILTERED } from '../src/conversation_list.js'
import type { Conversation, ListedConversation, Message, SenderType } from '../src/rows.js'

const ME = '00000000-0000-4000-8000-000000000001'

/** A moment of one day: they sort as numbers do. */
const at = (moment: number) => `2026-11-28T00:00:00.${String(moment).padStart(6, '0')}Z`

function conversation(id: string, moment: number, change: Partial<Conversation> = {}): Conversation {
  return {
    id, organization_id: 'o', customer_name: id, customer_email: null, status: 'open', priority: 'normal',
    assignee_id: null, created_at: at(0), updated_at: at(moment), ...change,
  }
}

function listed(id: string, moment: number, change: Partial<ListedConversation> = {}): ListedConversation {
  return { ...conversation(id, moment), unread: 0, verified: false, last_message: null, ...change }
}

function message(id: string, conversation_id: string, moment: number, sender_type: SenderType = 'visitor'): Message {
  return {
    id, conversation_id, organization_id: 'o', content: `message ${id}`, sender_type, sender_name: null,
    created_at: at(moment),
  }
}

const last = (id: string, moment: number, sender_type: SenderType = 'visitor') =>
  ({ id, content: id, sender_type, created_at: at(moment) })

const ids = (list: ConversationList) => list.order.map(({ id }) => id)

function filled(...rows: ListedConversation[]): ConversationList {
  const list = new ConversationList(ME)
  list.addPage(rows, null, true)
  return list
}

test('a message brings its conversation to the top, and counts for agents if a visitor or the AI wrote it', () => {
  const list = filled(listed('a', 30), listed('b', 20), listed('c', 10))
  for (const [index, sender] of (['visitor', 'ai', 'agent', 'system'] as const).entries()) {
    assert.equal(list.applyMessage(message(`m${index}`, 'c', 40 + index, sender)), 'applied')
  }
  assert.deepEqual(ids(list), ['c', 'a', 'b'])
  assert.equal(list.get('c')!.unread, 2)
  assert.equal(list.get('c')!.last_message!.id, 'm3')
})

test('a message that comes twice counts once, and one that the API may have counted is asked for', () => {
  const list = filled(listed('a', 30, { unread: 3, last_message: last('m3', 30) }))
  const fresh = message('m4', 'a', 40)
  assert.equal(list.applyMessage(fresh), 'applied')
  assert.equal(list.applyMessage(fresh), 'applied')
  assert.equal(list.get('a')!.unread, 4)
  // It committed late, or came again after a reconnect: only the API knows.
  assert.equal(list.applyMessage(message('late', 'a', 29)), 'unsure')
  assert.equal(list.applyMessage(message('same time', 'a', 30)), 'unsure')
  assert.equal(list.get('a')!.unread, 4)
})

test('messages of one transaction have one time, and all count', () => {
  const list = filled(listed('a', 30, { last_message: last('m3', 30) }))
  for (let index = 0; index < 500; index += 1) list.applyMessage(message(`n${index}`, 'a', 40))
  assert.equal(list.get('a')!.unread, 500)
  // The API's answer shows them all; none counts twice.
  list.put(listed('a', 40, { unread: 500, last_message: last('n499', 40) }))
  assert.equal(list.get('a')!.unread, 500)
})

test('an answer that was on its way while a message came does not lose it', () => {
  const list = filled(listed('a', 30, { last_message: last('m3', 30) }))
  list.applyMessage(message('m4', 'a', 40))
  list.put(listed('a', 30, { unread: 0, last_message: last('m3', 30) }))
  assert.equal(list.get('a')!.unread, 1)
  assert.equal(list.get('a')!.last_message!.id, 'm4')
  assert.equal(list.get('a')!.updated_at, at(40))
})

test('what was read stays read, whatever an answer on its way says', () => {
  const list = filled(listed('a', 30, { unread: 2, last_message: last('m3', 30) }))
  list.applyMessage(message('m4', 'a', 40))
  list.markRead('a', { created_at: at(40) })
  assert.equal(list.get('a')!.unread, 0)
  list.put(listed('a', 40, { unread: 3, last_message: last('m4', 40) }))
  assert.equal(list.get('a')!.unread, 0)
  list.applyMessage(message('m5', 'a', 50))
  assert.equal(list.get('a')!.unread, 1)
})

test('of the same change on two channels, and of older ones, only the newest shows', () => {
  const list = filled(listed('a', 30))
  const change = (status: Conversation['status'], moment: number, position: string) =>
    list.applyConversation(conversation('a', moment, { status }), position)
  change('pending', 40, '2')
  change('resolved', 40, '3')
  // The other channel is behind.
  change('pending', 40, '2')
  assert.equal(list.get('a')!.status, 'resolved')
  change('open', 35, '1')
  assert.equal(list.get('a')!.status, 'resolved')
})

test('a filter shows what matches, and a change that no longer matches leaves', () => {
  const list = new ConversationList(ME)
  list.filterBy({ ...UNFILTERED, status: 'open', assignee: 'me' }, null)
  list.addPage([listed('a', 30, { assignee_id: ME }), listed('b', 20, { assignee_id: ME })], null, true)
  list.applyConversation(conversation('a', 40, { status: 'resolved', assignee_id: ME }), '1')
  assert.deepEqual(ids(list), ['b'])
  list.applyConversation(conversation('a', 50, { assignee_id: ME }), '2')
  assert.deepEqual(ids(list), ['a', 'b'])
  // Nobody has to ask for what would not be shown.
  assert.equal(list.applyConversation(conversation('x', 60), '3'), 'applied')
  assert.equal(list.applyConversation(conversation('y', 60, { assignee_id: ME }), '4'), 'unknown')
})

test('with a search only the API adds conversations', () => {
  const list = new ConversationList(ME)
  list.filterBy({ ...UNFILTERED, search: 'needle' }, null)
  list.addPage([listed('a', 30)], null, true)
  assert.equal(list.applyConversation(conversation('b', 40), '1'), 'applied')
  assert.deepEqual(ids(list), ['a'])
})

test('what is older than the pages comes with the next page, once', () => {
  const list = new ConversationList(ME)
  list.addPage([listed('a', 30), listed('b', 20)], 'next', true)
  // Opened by a link.
  list.put(listed('d', 5))
  assert.deepEqual(ids(list), ['a', 'b'])
  list.addPage([listed('c', 10), listed('d', 5)], null, false)
  assert.deepEqual(ids(list), ['a', 'b', 'c', 'd'])
})

test('a first page that is read anew keeps what came meanwhile', () => {
  const list = filled(listed('a', 30), listed('b', 20))
  list.put(listed('new', 50))
  list.addPage([listed('a', 30), listed('b', 20)], null, true)
  assert.deepEqual(ids(list), ['new', 'a', 'b'])
})

test('in any order of answers and events, the list is sorted and each conversation is there once', () => {
  // A linear congruential generator: the same run every time.
  let seed = 7
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
    return Math.floor((seed / 2 ** 31) * below)
  }
  const list = new ConversationList(ME)
  const newest = new Map<string, string>()
  let moment = 100
  list.addPage([], null, true)
  for (let step = 0; step < 5_000; step += 1) {
    const id = `c${random(60)}`
    moment += random(2)
    const time = moment - random(30)
    switch (random(4)) {
      case 0: list.put(listed(id, time)); break
      case 1: list.applyConversation(conversation(id, time), null); break
      case 2: list.applyMessage(message(`m${step}`, id, time)); break
      default: if (random(20) === 0) list.remove(id)
    }
    const row = list.get(id)
    if (!row) newest.delete(id)
    else {
      assert.ok(row.updated_at >= (newest.get(id) ?? ''), 'a row goes back')
      newest.set(id, row.updated_at)
    }
  }
  const sorted = [...list.order].sort((one, other) =>
    one.updated_at === other.updated_at ? (one.id < other.id ? -1 : 1) : one.updated_at > other.updated_at ? -1 : 1)
  assert.deepEqual(ids(list), sorted.map(({ id }) => id))
  assert.deepEqual(new Set(ids(list)), new Set(newest.keys()))
  assert.equal(list.order.length, newest.size)
  for (const [index, row] of list.order.entries()) assert.equal(list.indexOf(row.id), index)
})

test('what was deleted stays so, whatever an answer on its way or another channel says', () => {
  const list = filled(listed('a', 30), listed('b', 20))
  list.delete('a', 'p5')
  list.put(listed('a', 30))
  list.addPage([listed('a', 30), listed('b', 20)], null, true)
  assert.equal(list.applyConversation(conversation('a', 31), 'p4'), 'applied')
  assert.deepEqual(ids(list), ['b'])
  // It was moved to another organization, and back.
  assert.equal(list.applyConversation(conversation('a', 40), 'p6'), 'unknown')
  list.put(listed('a', 40))
  assert.deepEqual(ids(list), ['a', 'b'])
})

test('after a gap the first page says what is still there', () => {
  const list = filled(listed('a', 40), listed('b', 30), listed('c', 20), listed('open', 10))
  list.gap('open')
  // Events from after the gap, and the page from before them.
  list.applyConversation(conversation('new', 60), 'p1')
  list.put(listed('new', 60))
  list.applyMessage(message('m', 'b', 50))
  list.addPage([listed('c', 20)], null, true)
  assert.deepEqual(ids(list), ['new', 'b', 'c', 'open'])
  // Without a gap, nothing is forgotten.
  list.addPage([listed('c', 20)], null, true)
  assert.deepEqual(ids(list), ['new', 'b', 'c', 'open'])
})
