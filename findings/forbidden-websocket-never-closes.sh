#!/usr/bin/env bash
# A WebSocket that the page's content policy forbids is closed when it is made, and no `close` is told of it.
#
# Software: Chromium 153.0.8010.0 (npm's @sparticuz/chromium 153.0.0).
# Guess:    Either the constructor throws, or the socket fails like any that cannot connect: readyState 0, then `error`,
#           then `close` with code 1006.
# Seen:     readyState is 3 as soon as the constructor returns, then `securitypolicyviolation` and `error` come, and
#           `close` never does. The event of the violation quotes the address with its query, in which keys travel.
source "$(dirname "$0")/lib/setup.sh"
npm_install @sparticuz/chromium@153.0.0 playwright-core@1.65.1
TMPDIR=$work javascript <<'JS' | seen_is "forbidden: made 3, violation ws://127.0.0.1:9/?key=k, error 3
allowed, and nobody there: made 0, error 3, close 3"
import { createServer } from 'node:http'
import chromium from '@sparticuz/chromium'
import { chromium as playwright } from 'playwright-core'
const server = createServer(({ url }, response) => {
  const policy = url === '/forbidden' ? "connect-src 'self'" : 'connect-src *'
  response.setHeader('content-security-policy', `default-src 'self' 'unsafe-inline'; ${policy}`)
  response.end('<!doctype html>')
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const browser = await playwright.launch({ executablePath: await chromium.executablePath(), args: ['--no-sandbox'] })
for (const [name, path] of [['forbidden', 'forbidden'], ['allowed, and nobody there', 'allowed']]) {
  const page = await browser.newPage()
  await page.goto(`http://127.0.0.1:${server.address().port}/${path}`)
  const heard = await page.evaluate(() => new Promise((resolve) => {
    const heard = []
    addEventListener('securitypolicyviolation', ({ blockedURI }) => heard.push(`violation ${blockedURI}`))
    const socket = new WebSocket('ws://127.0.0.1:9/?key=k')
    heard.push(`made ${socket.readyState}`)
    for (const type of ['error', 'close']) socket.addEventListener(type, () => heard.push(`${type} ${socket.readyState}`))
    setTimeout(() => resolve(heard), 3_000)
  }))
  console.log(`${name}: ${heard.join(', ')}`)
}
await browser.close()
server.close()
JS
