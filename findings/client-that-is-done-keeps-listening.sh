#!/usr/bin/env bash
# Each client of supabase-js leaves three listeners on the page's window, also after it is disconnected.
#
# Software: @supabase/supabase-js 2.119.1 (@supabase/phoenix 0.4.5).
# Guess:    removeAllChannels() and disconnect() are the end of a client: a component that makes one when it is mounted
#           and disconnects it when it is unmounted leaves nothing behind.
# Seen:     The constructor of the socket listens to pagehide, pageshow and visibilitychange of the window, and nothing
#           removes these listeners. They hold the client and all that its callbacks hold. A page that is to live long
#           keeps one client.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0
javascript 2> /dev/null <<'JS' | seen_is "listeners after 1 client: pagehide 1, pageshow 1, visibilitychange 1
listeners after 100 clients: pagehide 100, pageshow 100, visibilitychange 100"
import { WebSocket } from 'ws'
// The part of a browser's window that is asked for, with listeners that can be counted.
const listeners = {}
globalThis.addEventListener = (event) => { listeners[event] = (listeners[event] ?? 0) + 1 }
globalThis.removeEventListener = (event) => { listeners[event] -= 1 }
globalThis.window = globalThis.self = globalThis
const { createClient } = await import('@supabase/supabase-js')
const tell = (clients) => {
  const counts = ['pagehide', 'pageshow', 'visibilitychange'].map((event) => `${event} ${listeners[event] ?? 0}`)
  console.log(`listeners after ${clients}: ${counts.join(', ')}`)
}
for (let count = 1; count <= 100; count += 1) {
  // Without its part for sign-ins, which listens as well, on purpose.
  const accessToken = async () => 'token'
  const client = createClient('http://127.0.0.1:9', 'key', { accessToken, realtime: { transport: WebSocket } })
  await client.removeAllChannels()
  await client.realtime.disconnect()
  if (count === 1) tell('1 client')
}
tell('100 clients')
process.exit(0)
JS
