#!/usr/bin/env bash
# removeChannel() of supabase-js answers "ok" before the server has heard of it.
#
# Software: @supabase/supabase-js 2.119.1.
# Guess:    Its result, 'ok', 'timed out' or 'error', is the server's answer to the message that leaves the channel, so
#           that after an await nothing of the channel is in flight.
# Seen:     It is "ok" at once, also where the server never answers, or answers with an error. Waiting for it before the
#           same name is joined again does not make the server see the two apart.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0
javascript 2> /dev/null <<'JS' | seen_is "a server that never answers: ok
a server that answers with an error: ok"
import { createClient } from '@supabase/supabase-js'
import { WebSocket, WebSocketServer } from 'ws'
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
await new Promise((listening) => server.on('listening', listening))
let leaves = 'answers with an error'
server.on('connection', (socket) => socket.on('message', (text) => {
  const [joinRef, ref, topic, event] = JSON.parse(text)
  const reply = (status) => socket.send(JSON.stringify([joinRef, ref, topic, 'phx_reply', { status, response: { postgres_changes: [] } }]))
  if (event === 'phx_join') reply('ok')
  if (event === 'phx_leave' && leaves === 'answers with an error') reply('error')
}))
for (leaves of ['never answers', 'answers with an error']) {
  const client = createClient(`http://127.0.0.1:${server.address().port}`, 'key', { realtime: { transport: WebSocket, timeout: 1_000 } })
  const channel = client.channel('room')
  await new Promise((joined) => channel.subscribe((status) => status === 'SUBSCRIBED' && joined()))
  console.log(`a server that ${leaves}: ${await client.removeChannel(channel)}`)
}
process.exit(0)
JS
