#!/usr/bin/env bash
# supabase-js never sends a user's token that arrives between a join and the server's answer to it.
#
# Software: @supabase/supabase-js 2.119.1 with the option `accessToken`.
# Guess:    A join waits for the token, or the token follows as soon as it is there: by the message `access_token`, by
#           the next heartbeat (which asks for the token again) at the latest.
# Seen:     The join leaves without a token. When the token comes the channel is not joined yet, so nothing is sent; when
#           the answer comes the token is no longer new, so nothing is sent then either, nor at any heartbeat. The client
#           shows the token as its own while the server goes on with the key's rights, until a *different* token comes.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0
javascript 2> /dev/null <<'JS' | seen_is "phx_join: no token
heartbeat: answered
heartbeat: answered
heartbeat: answered
the channel is joined; the client's token: a user's"
import { createClient } from '@supabase/supabase-js'
import { WebSocket, WebSocketServer } from 'ws'
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
await new Promise((listening) => server.on('listening', listening))
let arrive
const token = new Promise((resolve) => { arrive = resolve })
const enough = new Promise((resolve) => server.on('connection', (socket) => {
  let beats = 0
  socket.on('message', async (text) => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(text)
    const said = event === 'heartbeat' ? 'answered' : payload.access_token ?? 'no token'
    console.log(`${event}: ${said}`)
    if (event === 'phx_join') {
      arrive("a user's")
      // What the client does with it is done before the answer leaves.
      await new Promise((later) => setTimeout(later, 200))
    }
    socket.send(JSON.stringify([joinRef, ref, topic, 'phx_reply', { status: 'ok', response: { postgres_changes: [] } }]))
    if (event === 'heartbeat' && (beats += 1) === 3) resolve()
  })
}))
const client = createClient(`http://127.0.0.1:${server.address().port}`, 'key', {
  accessToken: () => token, realtime: { transport: WebSocket, heartbeatIntervalMs: 500 },
})
const channel = client.channel('room').subscribe()
await enough
await new Promise((later) => setTimeout(later, 200))
console.log(`the channel is ${channel.state}; the client's token: ${client.realtime.accessTokenValue}`)
process.exit(0)
JS
