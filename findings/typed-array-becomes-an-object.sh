#!/usr/bin/env bash
# supabase-js sends a Uint8Array as the JSON object {"0":1,"1":2}; only an ArrayBuffer is sent as bytes.
#
# Software: @supabase/supabase-js 2.119.1, serialization 2.0.0.
# Guess:    A client with binary payloads sends typed arrays and DataViews as bytes, as WebSocket.send() and fetch() do.
# Seen:     The payload is looked at for being an ArrayBuffer. Everything else goes through JSON, in a frame of the same
#           kind, and send() answers "ok": a Uint8Array becomes an object with a key for each byte, a DataView {}. Node's
#           Buffer is a Uint8Array with a toJSON() of its own, and becomes yet another object.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0
javascript 2> /dev/null <<'JS' | seen_is 'ArrayBuffer: ok, as bytes: 01 02
Uint8Array: ok, as JSON: {"0":1,"1":2}
DataView: ok, as JSON: {}
Buffer: ok, as JSON: {"type":"Buffer","data":[1,2]}'
import { createClient } from '@supabase/supabase-js'
import { WebSocket, WebSocketServer } from 'ws'
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
await new Promise((listening) => server.on('listening', listening))
let receive = () => {}
server.on('connection', (socket) => socket.on('message', (data, isBinary) => {
  if (isBinary) return receive(data)
  const [joinRef, ref, topic] = JSON.parse(data)
  socket.send(JSON.stringify([joinRef, ref, topic, 'phx_reply', { status: 'ok', response: { postgres_changes: [] } }]))
}))
const client = createClient(`http://127.0.0.1:${server.address().port}`, 'key', { realtime: { transport: WebSocket } })
const channel = client.channel('room')
await new Promise((joined) => channel.subscribe((status) => status === 'SUBSCRIBED' && joined()))
const bytes = Uint8Array.of(1, 2)
for (const payload of [bytes.buffer, bytes, new DataView(bytes.buffer), Buffer.from(bytes)]) {
  const received = new Promise((resolve) => { receive = resolve })
  const answer = await channel.send({ type: 'broadcast', event: 'e', payload })
  // A byte for the kind, the lengths of join_ref, ref, topic, event and metadata, the encoding, those strings, the payload.
  const frame = await received
  const header = 7 + frame.subarray(1, 6).reduce((sum, length) => sum + length, 0)
  const body = frame.subarray(header)
  const said = frame[6] === 0 ? `bytes: ${body.toString('hex').match(/../g).join(' ')}` : `JSON: ${body}`
  console.log(`${payload.constructor.name}: ${answer}, as ${said}`)
}
process.exit(0)
JS
