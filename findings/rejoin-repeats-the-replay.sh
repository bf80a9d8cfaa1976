#!/usr/bin/env bash
# After a lost connection supabase-js asks for the replay of its first join again, from the same time.
#
# Software: @supabase/supabase-js 2.119.1, `config.broadcast.replay`.
# Guess:    What is asked for once is the history at the start. On a reconnect the client asks from where it lost the
#           connection, or for nothing.
# Seen:     The join goes out as it was: with the `since` of an hour ago everything since then comes again, after each lost
#           connection, and the client hands it on. With `limit` it can also be a gap: the newest so many since then.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0
javascript 2> /dev/null <<'JS' | seen_is 'join 1 asks for {"since":1750000000000,"limit":10}
heard old message
join 2 asks for {"since":1750000000000,"limit":10}
heard old message'
import { createClient } from '@supabase/supabase-js'
import { WebSocket, WebSocketServer } from 'ws'
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
await new Promise((listening) => server.on('listening', listening))
let joins = 0
server.on('connection', (socket) => socket.on('message', (text) => {
  const [joinRef, ref, topic, event, { config }] = JSON.parse(text)
  const say = (ref, event, payload) => socket.send(JSON.stringify([joinRef, ref, topic, event, payload]))
  if (event !== 'phx_join') return
  joins += 1
  console.log(`join ${joins} asks for ${JSON.stringify(config.broadcast.replay)}`)
  say(ref, 'phx_reply', { status: 'ok', response: { postgres_changes: [] } })
  const meta = { id: '00000000-0000-4000-8000-000000000001', replayed: true }
  say(null, 'broadcast', { type: 'broadcast', event: 'e', payload: { text: 'old message' }, meta })
}))
const client = createClient(`http://127.0.0.1:${server.address().port}`, 'key', {
  realtime: { transport: WebSocket, reconnectAfterMs: () => 50 },
})
const replay = { since: 1_750_000_000_000, limit: 10 }
let heard = 0
client.channel('room', { config: { private: true, broadcast: { replay } } })
  .on('broadcast', { event: 'e' }, ({ payload }) => {
    console.log(`heard ${payload.text}`)
    if ((heard += 1) === 2) process.exit(0)
    for (const socket of server.clients) socket.terminate()
  })
  .subscribe()
JS
