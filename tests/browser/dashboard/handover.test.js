// The example service answers a visitor as `ai` and hands over: how long that takes to the agent's screen.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connect, secret, subscribe } from '../../clients/support.js'
import { DEADLINE_MS, eventually, launch, openDashboard, openInList, relay, rowOf, shoot, shownMessages, sql } from './support.js'

const PROGRAM = fileURLToPath(new URL('../../../examples/ai-handover/main.js', import.meta.url))
const HANDOVERS = 20

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 3

/** The service, once it listens. */
async function startAi(t, organization) {
  const env = { ...process.env, CAMPFIRE_RELAY: relay, CAMPFIRE_ORGANIZATION: organization, CAMPFIRE_JWT_SECRET: secret }
  const service = spawn(process.execPath, [PROGRAM], { env, stdio: ['ignore', 'inherit', 'pipe'] })
  t.after(() => service.kill('SIGKILL'))
  let text = ''
  await new Promise((resolve, reject) => {
    service.once('exit', () => reject(new Error(`the service has ended: ${text}`)))
    service.stderr.on('data', (chunk) => {
      text += chunk
      if (text.includes('looked through what was open')) resolve()
    })
  })
}

/** What a widget asks. */
async function post(path, token, body) {
  const answer = await fetch(relay + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  })
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`)
  return answer.json()
}

test('the AI answers, hands over, and the agent sees it', { timeout }, async (t) => {
  // Of its own: the service answers everybody in its organization.
  const [organization, ada] = [randomUUID(), randomUUID()]
  await sql(`insert into organizations (id, name) values ('${organization}', 'With an AI');
    insert into agents (organization_id, user_id, display_name) values ('${organization}', '${ada}', 'Ada')`)
  const claims = { role: 'authenticated', sub: ada, org_id: organization, exp: Math.floor(Date.now() / 1000) + 3600 }
  await startAi(t, organization)
  const page = await openDashboard(t, browser, { claims })
  const committed = new Map()
  const { channel } = await subscribe(await connect(t, '2.0.0', claims), `org:${organization}:conversations`)
  channel.on('broadcast', { event: 'conversation:updated' }, ({ payload, meta }) => {
    const at = meta.committed_at
    // Six digits, of which a date knows three.
    if (payload.status === 'pending') committed.set(payload.id, Date.parse(at) + Number(at.slice(-4, -1)) / 1000)
  })
  await page.evaluate(() => {
    globalThis.painted = {}
    const look = () => {
      for (const row of document.querySelectorAll('.row')) {
        // The page draws in frames: a task later this one is drawn.
        if (!/pending/i.test(row.textContent) || row.dataset.id in painted) continue
        painted[row.dataset.id] = 0
        setTimeout(() => { painted[row.dataset.id] = performance.timeOrigin + performance.now() }, 0)
      }
    }
    new MutationObserver(look).observe(document.querySelector('.rows'), { childList: true, subtree: true, characterData: true })
  })

  const [toScreen, toCommit] = [[], []]
  for (let number = 0; number < HANDOVERS; number += 1) {
    const { conversationId: id, token } = await post('/api/widget/auth', null, { organizationId: organization, name: `Vera ${number}` })
    await post('/api/widget/messages', token, { content: 'What does it cost?' })
    const asked = Date.now()
    await post('/api/widget/messages', token, { content: 'Can I talk to a person, please?' })
    await eventually(() => page.evaluate((id) => painted[id] > 0, id), 'the handover is on the screen')
    await eventually(() => committed.has(id), 'its commit is known')
    toScreen.push(await page.evaluate((id) => painted[id], id) - committed.get(id))
    toCommit.push(committed.get(id) - asked)
    if (number > 0) continue
    assert.match(await rowOf(page, id).textContent(), /Ada/)
    await openInList(page, id)
    await eventually(async () => (await shownMessages(page)).at(-1) === 'Ada will answer you.', 'the visitor was told')
    await shoot(page, 'handover')
  }
  const quantile = (all, share) => [...all].sort((one, other) => one - other)[Math.floor((all.length - 1) * share)].toFixed(1)
  t.diagnostic(`from the commit of a handover to the agent's screen: p50 ${quantile(toScreen, 0.5)} ms, most ${quantile(toScreen, 1)} ms`)
  t.diagnostic(`from the question to the commit of the handover: p50 ${quantile(toCommit, 0.5)} ms, most ${quantile(toCommit, 1)} ms`)
})
