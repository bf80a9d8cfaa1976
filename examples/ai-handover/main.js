// An AI that answers visitors first, and hands over to a person who is asked for.
//
// Events say that there is a message; what there is to answer, the API says. So nothing is missed while the service or its
// connection was away: with each connection it looks through what is open. And nothing is answered twice: the key of an
// answer is the id of the message that it answers, so the same answer written again, by this service or by another one
// beside it, is still one message.
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'
import { answer } from './answer.js'
import { ApiError, createApi, messageId, token } from './api.js'

const required = (name) => {
  const value = process.env[name]
  if (!value) throw new Error(`set ${name}`)
  return value
}

const relay = required('CAMPFIRE_RELAY')
const organization = required('CAMPFIRE_ORGANIZATION')
const secret = required('CAMPFIRE_JWT_SECRET')

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort())
const getToken = () => token(secret, organization)
const api = createApi({ relay, getToken, signal: stop.signal })

// Conversations one after the other within themselves, and side by side otherwise.
const turns = new Map()

function handle(conversation) {
  const turn = (turns.get(conversation) ?? Promise.resolve()).then(() => respond(conversation)).catch((error) => {
    if (!stop.signal.aborted) console.error(`conversation ${conversation}: ${error.message}`)
  })
  turns.set(conversation, turn)
  turn.finally(() => turns.get(conversation) === turn && turns.delete(conversation))
  return turn
}

/** Answers what the visitor has written last, unless a person has the conversation, or it is answered. */
async function respond(id) {
  const { status, assignee_id: assignee } = await api.conversation(id)
  if (status !== 'open' || assignee !== null) return
  const messages = await api.latestMessages(id)
  const question = messages.findLast(({ sender_type: sender }) => sender === 'visitor' || sender === 'agent')
  if (question?.sender_type !== 'visitor') return
  // The last message may well be an answer to the question before this one, which came meanwhile.
  if (messages.some((message) => message.id === messageId(question.id, id))) return
  const text = await answer(question)
  if (text !== null) return api.say(id, question.id, text)
  await handOver(id, question)
}

/** A person first, the words afterwards: if the service dies in between, somebody is there all the same. */
async function handOver(id, question) {
  const { agents } = await api.me()
  const active = agents.filter((agent) => agent.active)
  // The same agent for the same conversation, whoever decides it.
  const agent = active.length > 0 ? active[parseInt(id.slice(0, 8), 16) % active.length] : null
  try {
    await api.change(id, { status: 'pending', assignee_id: agent?.user_id ?? null })
  } catch (error) {
    // Deactivated at this moment: the conversation waits for whoever takes it.
    if (!(error instanceof ApiError)) throw error
    await api.change(id, { status: 'pending' })
  }
  await api.say(id, question.id, agent ? `${agent.display_name} will answer you.` : 'Somebody will answer you.')
}

async function lookThrough() {
  for await (const { id, last_message: last } of api.unassigned()) {
    if (last && last.sender_type !== 'agent') await handle(id)
  }
}

const { apiKey, channels } = await api.me()
const client = createClient(relay, apiKey, { accessToken: async () => getToken(), realtime: { transport: ws } })
await client.realtime.setAuth()
client
  .channel(channels.conversations, { config: { private: true } })
  .on('broadcast', { event: 'message:created' }, ({ payload }) => {
    if (payload.sender_type === 'visitor') handle(payload.conversation_id)
  })
  .subscribe((status, error) => {
    console.error(`channel: ${status}${error ? ` (${error.message})` : ''}`)
    if (status === 'SUBSCRIBED') {
      lookThrough().then(() => console.error('looked through what was open'), (problem) => {
        if (!stop.signal.aborted) console.error(`could not look through: ${problem.message}`)
      })
    }
  })

// The stock client asks for a token when it connects; a socket that stays open needs one before the old one ends.
while (!stop.signal.aborted) {
  await sleep(30 * 60_000, undefined, { signal: stop.signal }).catch(() => {})
  if (!stop.signal.aborted) await client.realtime.setAuth()
}
client.realtime.disconnect()
await Promise.allSettled(turns.values())
