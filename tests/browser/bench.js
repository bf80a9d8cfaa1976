// From a commit to the screen, and from a key to one's own bubble, for `cargo xtask bench browser`: a line of JSON.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { connect, openConversation, subscribe, visitorClaims } from '../clients/support.js'
import { openDashboard, openInList } from './dashboard/support.js'
import { agentClaims, converse, launch, newVisitor, organization } from './widget/support.js'

/** Messages of each measurement. */
const ROUNDS = 200

/** What tests have to end things by; here the order is the other way round. */
const ends = []
const t = { after: (end) => ends.unshift(end) }

/** One session of psql: to start it anew each time would take more than what is measured. */
class Database {
  static async open() {
    const database = new Database()
    const options = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', process.env.CAMPFIRE_DATABASE]
    database.psql = spawn(process.env.CAMPFIRE_PSQL, options, { stdio: ['pipe', 'pipe', 'inherit'] })
    database.lines = createInterface({ input: database.psql.stdout })
    t.after(() => database.psql.stdin.end())
    return database
  }

  /** Writes a message; resolves with the time right before its commit, in milliseconds since 1970. */
  async write(conversation, sender, text) {
    const line = once(this.lines, 'line')
    this.psql.stdin.write(`insert into messages (organization_id, conversation_id, content, sender_type)
      values ('${organization}', '${conversation}', '${text}', '${sender}')
      returning extract(epoch from clock_timestamp()) * 1000;\n`)
    return Number((await line)[0])
  }
}

/** Middle and tail, in milliseconds. */
function figures(name, took) {
  const sorted = took.toSorted((one, other) => one - other)
  const at = (share) => Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(1))
  return { [`${name}_p50_ms`]: at(0.5), [`${name}_p99_ms`]: at(0.99) }
}

/** Messages come at any time of a frame. */
const breathe = () => pause(20 + Math.random() * 40)

/** The floor: an unmodified client in Node. */
async function toSocket(database) {
  const conversation = await openConversation()
  const client = await connect(t, '2.0.0', visitorClaims(conversation))
  const { channel } = await subscribe(client, `org:${organization}:widget:${conversation}`)
  let arrive
  channel.on('broadcast', { event: 'message:created' }, () => arrive(performance.timeOrigin + performance.now()))
  const took = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const arrived = new Promise((resolve) => { arrive = resolve })
    const committed = await database.write(conversation, 'agent', `timed ${round}`)
    took.push(await arrived - committed)
    await breathe()
  }
  await client.realtime.disconnect()
  return took
}

/** Notes when texts are on the screen: those that `selector` finds in the box, in the shadow of `host` if there is one. */
const watch = (page, host, box, selector) => page.evaluate(([host, where, selector]) => {
  const box = (host ? document.querySelector(host).shadowRoot : document).querySelector(where)
  // Of the clock that the database has, too; that of the page does not follow when it is set.
  let offset = -Infinity
  for (let sample = 0; sample < 2_000; sample += 1) offset = Math.max(offset, Date.now() - performance.now())
  const texts = () => [...box.querySelectorAll(selector)].slice(-3).map(({ textContent }) => textContent)
  globalThis.shown = new Map()
  globalThis.echoed = new Map()
  globalThis.wanted = ''
  new MutationObserver(() => {
    // Both pages change within a frame's callback: a task later the frame is drawn.
    const now = texts().filter((text) => !shown.has(text))
    for (const text of now) {
      shown.set(text, null)
      setTimeout(() => shown.set(text, offset + performance.now()), 0)
    }
  }).observe(box, { childList: true, subtree: true })
  addEventListener('keydown', ({ key, timeStamp }) => {
    if (key !== 'Enter') return
    const text = wanted
    let frames = 0
    const look = () => requestAnimationFrame(() => setTimeout(() => {
      frames += 1
      if (texts().includes(text)) echoed.set(text, { ms: performance.now() - timeStamp, frames })
      else look()
    }, 0))
    look()
  }, { capture: true })
}, [host, box, selector])

async function toPixel(database, page, conversation, sender) {
  const took = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const text = `timed ${round}`
    const committed = await database.write(conversation, sender, text)
    const at = await page.waitForFunction((text) => shown.get(text), text)
    took.push(await at.jsonValue() - committed)
    await breathe()
  }
  return took
}

/** From the key press to one's own bubble: how long, and in how many frames. */
async function echoes(page, input) {
  const all = []
  for (let round = 0; round < ROUNDS / 4; round += 1) {
    const text = `own ${round}`
    await input.fill(text)
    await page.evaluate((text) => { wanted = text }, text)
    await input.press('Enter')
    all.push(await (await page.waitForFunction((text) => echoed.get(text), text)).jsonValue())
    await breathe()
  }
  return all
}

async function widget(database, browser) {
  const { tab } = await converse(t, await newVisitor(t, browser))
  const conversation = await tab.conversation()
  await watch(tab.page, 'campfire-widget', '.log', '.bubble')
  const took = await toPixel(database, tab.page, conversation, 'agent')
  return { took, echoes: await echoes(tab.page, tab.input) }
}

async function dashboard(database, browser) {
  const conversation = await openConversation()
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  await openInList(page, conversation)
  await watch(page, null, '.messages', '.message .text')
  const took = await toPixel(database, page, conversation, 'visitor')
  return { took, echoes: await echoes(page, page.getByLabel('Reply')) }
}

/** What a page has to fetch, compressed. */
async function gzipped(folder) {
  const assets = new URL(`../../relay/assets/${folder}/`, import.meta.url)
  const files = await Promise.all((await readdir(assets)).map((name) => readFile(new URL(name, assets))))
  return files.reduce((sum, file) => sum + gzipSync(file, { level: 9 }).length, 0)
}

const load = async () => Number((await readFile('/proc/loadavg', 'utf8')).split(' ')[0])

const result = { load_average_before: await load(), rounds: ROUNDS }
try {
  const database = await Database.open()
  Object.assign(result, figures('commit_to_socket', await toSocket(database)))
  for (const [name, measure] of Object.entries({ widget, dashboard })) {
    const browser = await launch()
    const { took, echoes } = await measure(database, browser)
    Object.assign(result, figures(`${name}_commit_to_pixel`, took), figures(`${name}_own_echo`, echoes.map(({ ms }) => ms)))
    result[`${name}_own_echo_in_one_frame`] = `${echoes.filter(({ frames }) => frames === 1).length} of ${echoes.length}`
    result.chromium = browser.version()
    await browser.close()
  }
  result.widget_gzip_bytes = await gzipped('widget')
  result.dashboard_gzip_bytes = await gzipped('dashboard')
  result.load_average_after = await load()
} finally {
  for (const end of ends) await Promise.resolve(end()).catch(() => {})
}
console.log(JSON.stringify(result))
process.exit(0)
