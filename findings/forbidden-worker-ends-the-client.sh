#!/usr/bin/env bash
# supabase-js with `worker: true`, on a page whose content policy forbids that worker, connects, disconnects at once,
# and stays disconnected.
#
# Software: @supabase/supabase-js 2.119.1; Chromium 153.0.8010.0 (npm's @sparticuz/chromium 153.0.0).
# Guess:    Without its worker the client beats by a timer of the page, or the channel is told that it cannot work; at
#           the least it reconnects, as it does after every lost connection.
# Seen:     The socket opens and the channel may even be SUBSCRIBED for a moment. Then the worker's error makes the client
#           disconnect by itself. The channel hears CHANNEL_ERROR, "socket closed: 1005", which says nothing of a worker,
#           and since the client itself disconnected it does not connect again. The default worker comes from a blob,
#           so that `script-src 'self'` is enough for this.
source "$(dirname "$0")/lib/setup.sh"
npm_install @supabase/supabase-js@2.119.1 ws@8.23.0 @sparticuz/chromium@153.0.0 playwright-core@1.65.1
TMPDIR=$work javascript <<'JS' | seen_is "forbidden: CHANNEL_ERROR socket closed: 1005; connections 1; beats none
allowed by worker-src blob:: none; connections 1; beats some"
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import chromium from '@sparticuz/chromium'
import { chromium as playwright } from 'playwright-core'
import { WebSocketServer } from 'ws'
const script = readFileSync('node_modules/@supabase/supabase-js/dist/umd/supabase.js')
const server = createServer(({ url }, response) => {
  const workers = url === '/allowed' ? '; worker-src blob:' : ''
  response.setHeader('content-security-policy', `script-src 'self'; connect-src *${workers}`)
  response.setHeader('content-type', url === '/supabase.js' ? 'text/javascript' : 'text/html')
  response.end(url === '/supabase.js' ? script : '<!doctype html><script src="/supabase.js"></script>')
})
let connections = 0
const sockets = new WebSocketServer({ server })
sockets.on('connection', (socket) => {
  connections += 1
  socket.on('message', (text) => {
    const [joinRef, ref, topic, event] = JSON.parse(text)
    const reply = () => socket.send(JSON.stringify([joinRef, ref, topic, 'phx_reply', { status: 'ok', response: { postgres_changes: [] } }]))
    if (event === 'phx_join' || event === 'heartbeat') reply()
  })
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const browser = await playwright.launch({ executablePath: await chromium.executablePath(), args: ['--no-sandbox'] })
for (const [name, path] of [['forbidden', 'forbidden'], ['allowed by worker-src blob:', 'allowed']]) {
  connections = 0
  const page = await browser.newPage()
  const url = `http://127.0.0.1:${server.address().port}`
  await page.goto(`${url}/${path}`)
  const { errors, beats } = await page.evaluate((url) => new Promise((resolve) => {
    const heard = { errors: [], beats: 0 }
    const heartbeatCallback = (status) => { heard.beats += status === 'ok' }
    const realtime = { worker: true, heartbeatIntervalMs: 500, heartbeatCallback, reconnectAfterMs: () => 100 }
    supabase.createClient(url, 'key', { realtime }).channel('room').subscribe((status, error) => {
      if (status !== 'SUBSCRIBED') heard.errors.push(`${status} ${error?.message}`)
    })
    // Many times the wait before a reconnection.
    setTimeout(() => resolve(heard), 6_000)
  }), url)
  console.log(`${name}: ${errors.join() || 'none'}; connections ${connections}; beats ${beats > 0 ? 'some' : 'none'}`)
  await page.close()
}
await browser.close()
process.exit(0)
JS
