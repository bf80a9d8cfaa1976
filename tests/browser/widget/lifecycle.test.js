// Pages that change under the widget: it neither vanishes nor doubles, and leaves nothing behind.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { build } from '../../../web/node_modules/esbuild/lib/main.js'
import { answer, launch, newVisitor, openSite, organization, relay, sql, Tab, tag } from './support.js'

const LIMIT = { timeout: 400_000 }

let browser
before(async () => {
  browser = await launch()
})
after(() => browser?.close())

/** Counts the page's sockets, and how many of them are open. */
async function newContext(t) {
  const context = await newVisitor(t, browser)
  await context.addInitScript(() => {
    const all = []
    globalThis.WebSocket = class extends WebSocket {
      constructor(...parameters) {
        super(...parameters)
        all.push(new WeakRef(this))
      }
    }
    globalThis.sockets = () => ({ made: all.length, open: all.filter((socket) => socket.deref()?.readyState <= 1).length })
  })
  return context
}

const PLAIN = { policy: null }

async function begin(t, options) {
  const url = await openSite(t, options)
  const context = await newContext(t)
  const tab = await Tab.open(t, context, url, { isStrict: options?.policy !== null })
  await tab.open()
  await tab.say('hello')
  await tab.sent()
  await tab.connected()
  return { tab, context, url, conversation: await tab.conversation() }
}

const sockets = (tab) => tab.page.evaluate(() => sockets())

/** That there is one widget, which has the conversation and hears what is new. */
async function isWhole(tab, conversation, seen) {
  await tab.until(() => tab.page.locator('campfire-widget').count(), (count) => count === 1, 'one element')
  await tab.connected()
  seen.push(`news ${seen.length}`)
  await answer(conversation, seen.at(-1))
  await tab.shows(...seen)
  await tab.until(() => sockets(tab), ({ open }) => open === 1, 'one socket')
  const told = (await tab.events('message')).filter(({ content }) => content === seen.at(-1))
  assert.equal(told.length, 1, 'the page is told once')
}

/** What Chromium counts of the page, after it has collected garbage. */
async function counts(tab) {
  const session = await tab.page.context().newCDPSession(tab.page)
  await session.send('Performance.enable')
  for (let round = 0; round < 3; round += 1) await session.send('HeapProfiler.collectGarbage')
  const { metrics } = await session.send('Performance.getMetrics')
  const listenersOf = async (expression) => {
    const { result } = await session.send('Runtime.evaluate', { expression })
    return (await session.send('DOMDebugger.getEventListeners', { objectId: result.objectId })).listeners.length
  }
  const value = (name) => metrics.find((metric) => metric.name === name).value
  const counted = {
    nodes: value('Nodes'), listeners: value('JSEventListeners'), heap: value('JSHeapUsedSize'),
    window: await listenersOf('window'), document: await listenersOf('document'),
    viewport: await listenersOf('visualViewport'),
  }
  await session.detach()
  return counted
}

const ELEMENT = `<campfire-widget organization="${organization}"></campfire-widget>`
/** The loader, for pages that place the element themselves. */
const LOADER = tag().replace(/data-organization="[^"]*"/, '')

test('a hundred mounts leave no socket, no listener and no element behind, and double no message', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t, { pages: { '/': `<main>${ELEMENT}</main>${LOADER}` } })
  const mount = (times) => tab.page.evaluate(async ({ times, organization }) => {
    const turn = () => new Promise((resolve) => setTimeout(resolve))
    document.querySelector('campfire-widget')?.remove()
    for (let time = 0; time < times; time += 1) {
      const before = noted.events.length
      const element = document.createElement('campfire-widget')
      element.setAttribute('organization', organization)
      document.querySelector('main').append(element)
      // Most go before they are connected.
      while (time % 10 === 0 && !noted.events.slice(before).some(([, { state }]) => state === 'connected')) await turn()
      await turn()
      element.remove()
      await turn()
    }
    noted.events = noted.events.filter(([name]) => name === 'message')
  }, { times, organization })
  await mount(10)
  await tab.until(() => sockets(tab), ({ open }) => open === 0, 'no socket is open')
  const before = await counts(tab)
  await mount(100)
  await tab.until(() => sockets(tab), ({ open }) => open === 0, 'no socket is open')
  // What timers and answers that are still to come hold goes with them.
  const after = await tab.until(() => counts(tab), (after) =>
    ['window', 'document', 'viewport'].every((name) => after[name] === before[name]) &&
    after.listeners <= before.listeners + 5 && after.nodes <= before.nodes + 50 && after.heap <= before.heap + 1_500_000,
  `as few as before: ${JSON.stringify(before)}`)
  t.diagnostic(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`)
  await tab.page.evaluate((html) => {
    const element = document.createElement('campfire-widget')
    element.setAttribute('organization', html)
    document.querySelector('main').append(element)
  }, organization)
  await isWhole(tab, conversation, ['hello'])
})

test('of several elements one shows the widget, and another takes over when that one goes', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t, { pages: { '/': `<main>${ELEMENT}${ELEMENT}</main>${LOADER}` } })
  const shown = () => tab.page.locator('campfire-widget .launcher').count()
  assert.equal(await shown(), 1)
  await tab.page.evaluate(() => document.querySelector('campfire-widget').remove())
  await tab.until(shown, (count) => count === 1, 'the other one')
  await isWhole(tab, conversation, ['hello'])
})

test('a widget that is moved keeps its socket, its messages and what is being written', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  const { made } = await sockets(tab)
  await tab.input.fill('half a sentence')
  const moves = await tab.page.evaluate(async () => {
    const element = document.querySelector('campfire-widget')
    const [one, other] = [document.createElement('div'), document.createElement('div')]
    document.body.append(one, other)
    const hasMoveBefore = 'moveBefore' in one
    for (let time = 0; time < 20; time += 1) {
      const place = time % 2 ? one : other
      if (hasMoveBefore && time < 10) place.moveBefore(element, null)
      else place.append(element)
      await new Promise((resolve) => setTimeout(resolve))
    }
    return hasMoveBefore
  })
  assert.equal(moves, true, 'this Chromium has moveBefore')
  assert.equal(await tab.input.inputValue(), 'half a sentence')
  assert.equal((await sockets(tab)).made, made)
  await isWhole(tab, conversation, ['hello'])
})

test('a page that takes the element away, or all of its body, has it back', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t)
  const { made } = await sockets(tab)
  await tab.page.evaluate(async () => {
    document.querySelector('campfire-widget').remove()
    await new Promise((resolve) => setTimeout(resolve))
    document.body.append(document.querySelector('campfire-widget'))
    document.documentElement.replaceChild(document.createElement('body'), document.body)
    await new Promise((resolve) => setTimeout(resolve))
    // A copy, as caches of pages keep it.
    document.body.append(document.querySelector('campfire-widget').cloneNode(true))
  })
  assert.equal((await sockets(tab)).made, made)
  await isWhole(tab, conversation, ['hello'])
})

/** Puts the loader's tag on the page, as a page does that is put together by scripts. */
const run = (tab) => tab.page.evaluate(([src, organization]) => new Promise((resolve, reject) => {
  const script = document.createElement('script')
  Object.assign(script, { src, onload: resolve, onerror: reject })
  script.dataset.organization = organization
  document.body.append(script)
}), [`${relay}/widget/loader.js`, organization])

test('a loader that is run again changes nothing, and after destroy() begins anew', LIMIT, async (t) => {
  const { tab, conversation } = await begin(t, PLAIN)
  const seen = ['hello']
  for (let time = 0; time < 3; time += 1) await run(tab)
  await isWhole(tab, conversation, seen)
  for (let time = 0; time < 10; time += 1) {
    await tab.call('destroy')
    assert.equal(await tab.page.locator('campfire-widget').count(), 0)
    assert.equal(await tab.page.evaluate(() => globalThis.campfire), undefined)
    await tab.until(() => sockets(tab), ({ open }) => open === 0, 'no socket is open')
    await run(tab)
    await tab.page.evaluate(() => {
      noted.events = []
      for (const event of ['ready', 'message', 'connection']) campfire('on', event, (detail) => noted.events.push([event, detail]))
    })
    await tab.happened('ready')
  }
  await tab.open()
  await isWhole(tab, conversation, seen)
})

const script = async (path) => readFile(new URL(`../node_modules/${path}`, import.meta.url), 'utf8')

test('Turbo changes pages under it, back and forth', LIMIT, async (t) => {
  const files = { '/turbo.js': await script('@hotwired/turbo/dist/turbo.es2017-umd.js') }
  const page = (text, to) => `<script src="/turbo.js"></script><h1>${text}</h1><a href="${to}">go</a>${tag()}`
  const { tab, conversation } = await begin(t, { ...PLAIN, files, pages: { '/': page('one', '/two'), '/two': page('two', '/') } })
  const seen = ['hello']
  const { made } = await sockets(tab)
  for (const name of ['two', 'one', 'two']) {
    await tab.page.locator('a', { hasText: 'go' }).first().evaluate((link) => link.click())
    await tab.page.locator('h1', { hasText: name }).waitFor()
    await isWhole(tab, conversation, seen)
  }
  for (const name of ['one', 'two']) {
    await tab.page.goBack()
    await tab.page.locator('h1', { hasText: name }).waitFor()
    await isWhole(tab, conversation, seen)
  }
  assert.equal((await sockets(tab)).made, made, 'one socket all the while')
})

test('htmx swaps the body under it', LIMIT, async (t) => {
  const files = { '/htmx.js': await script('htmx.org/dist/htmx.js') }
  const page = (text, to) => `<script src="/htmx.js"></script><h1>${text}</h1><a href="${to}" hx-boost="true">go</a>${tag()}`
  const { tab, conversation } = await begin(t, { ...PLAIN, files, pages: { '/': page('one', '/two'), '/two': page('two', '/') } })
  const seen = ['hello']
  const { made } = await sockets(tab)
  for (const name of ['two', 'one']) {
    await tab.page.locator('a', { hasText: 'go' }).first().evaluate((link) => link.click())
    await tab.page.locator('h1', { hasText: name }).waitFor()
    await isWhole(tab, conversation, seen)
  }
  assert.equal((await sockets(tab)).made, made, 'one socket all the while')
})

test('React mounts it twice in StrictMode, and unmounts it', LIMIT, async (t) => {
  const { outputFiles } = await build({
    stdin: {
      contents: `
        import { createElement, StrictMode, useEffect, useRef, useState } from 'react'
        import { createRoot } from 'react-dom/client'
        function Chat() {
          const place = useRef(null)
          useEffect(() => {
            globalThis.effects = (globalThis.effects ?? 0) + 1
            const element = document.createElement('campfire-widget')
            element.setAttribute('organization', '${organization}')
            place.current.append(element)
            return () => element.remove()
          }, [])
          return createElement('div', { ref: place })
        }
        function Page() {
          const [isShown, show] = useState(true)
          globalThis.show = show
          return isShown ? createElement(Chat) : null
        }
        createRoot(document.querySelector('main')).render(createElement(StrictMode, null, createElement(Page)))`,
      resolveDir: new URL('..', import.meta.url).pathname,
    },
    bundle: true, write: false, format: 'iife', define: { 'process.env.NODE_ENV': '"development"' },
  })
  const files = { '/app.js': outputFiles[0].text }
  const { tab, conversation } = await begin(t, { ...PLAIN, files, pages: { '/': `<main></main><script src="/app.js"></script>${LOADER}` } })
  assert.equal(await tab.page.evaluate(() => effects), 2, 'StrictMode runs effects twice')
  const seen = ['hello']
  await isWhole(tab, conversation, seen)
  for (let time = 0; time < 3; time += 1) {
    await tab.page.evaluate(() => show(false))
    await tab.until(() => sockets(tab), ({ open }) => open === 0, 'no socket is open')
    await answer(conversation, `while away ${time}`)
    seen.push(`while away ${time}`)
    await tab.page.evaluate(() => {
      noted.events = noted.events.filter(([name]) => name === 'message')
      show(true)
    })
    await isWhole(tab, conversation, seen)
  }
})

test('every verb does what it says, also before the bundle is there', LIMIT, async (t) => {
  const context = await newContext(t)
  await context.addInitScript(() => {
    campfire('setLocale', 'fr')
    campfire('open')
  })
  const tab = await Tab.open(t, context, await openSite(t))
  const panel = tab.widget.locator('.panel')
  await panel.waitFor()
  await tab.until(() => tab.widget.locator('h2').textContent(), (title) => title === 'Discutez avec nous', 'French')
  await tab.call('toggle')
  await panel.waitFor({ state: 'hidden' })
  await tab.call('toggle')
  await panel.waitFor()
  await tab.call('hide')
  await tab.widget.locator('.launcher').waitFor({ state: 'hidden' })
  await tab.call('show')
  await tab.widget.locator('.launcher').waitFor()
  assert.equal(await panel.isHidden(), true)
  const before = await tab.events('open')
  await tab.page.evaluate(() => {
    globalThis.heard = 0
    const listener = () => (globalThis.heard += 1)
    campfire('on', 'open', listener)
    campfire('open')
    campfire('off', 'open', listener)
    campfire('close')
    campfire('open')
  })
  assert.equal((await tab.events('open')).length, before.length + 2)
  assert.equal(await tab.page.evaluate(() => heard), 1)
  await tab.call('setContext', { plan: 'gold', name: 'Vera', email: 'vera@example.com' })
  await tab.call('frobnicate')
  assert.equal((await tab.happened('error')).code, 'invalid_call')
  await tab.say('bonjour')
  await tab.sent()
  assert.equal(await contextOf(await tab.conversation()), 'Vera|vera@example.com|gold')
})

const contextOf = (conversation) =>
  sql(`select concat_ws('|', customer_name, customer_email, metadata ->> 'plan') from conversations where id = '${conversation}'`)
