#!/usr/bin/env bash
# The option `vsn` of phoenix.js changes what the address says, and not what is sent.
#
# Software: phoenix 1.8.16 (npm).
# Guess:    `new Socket(url, { vsn: '1.0.0' })` speaks serialization 1.0.0: objects with topic, event, payload and ref.
# Seen:     The address says vsn=1.0.0, and the frames are the arrays of 2.0.0, so that a server that believes the address
#           cannot read the join. Objects come only from `encode` and `decode` of one's own beside `vsn`.
source "$(dirname "$0")/lib/setup.sh"
npm_install phoenix@1.8.16 ws@8.23.0
javascript <<'JS' | seen_is 'vsn alone: 1.0.0 ["3","3","room","phx_join",{}]
vsn with encode and decode: 1.0.0 {"topic":"room","event":"phx_join","payload":{},"ref":"3","join_ref":"3"}'
import { Socket } from 'phoenix'
import { WebSocket, WebSocketServer } from 'ws'
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
await new Promise((listening) => server.on('listening', listening))
const options = {
  'vsn alone': {},
  'vsn with encode and decode': {
    encode: (message, done) => done(JSON.stringify(message)),
    decode: (text, done) => done(JSON.parse(text)),
  },
}
for (const [name, more] of Object.entries(options)) {
  const socket = new Socket(`ws://127.0.0.1:${server.address().port}`, { transport: WebSocket, vsn: '1.0.0', ...more })
  const joined = new Promise((resolve) => server.once('connection', (connection, { url }) => {
    const vsn = new URL(url, 'ws://server').searchParams.get('vsn')
    connection.once('message', (text) => resolve(`${vsn} ${text}`))
  }))
  socket.connect()
  socket.channel('room').join()
  console.log(`${name}: ${await joined}`)
}
process.exit(0)
JS
