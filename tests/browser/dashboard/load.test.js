// Much at once, and much in all. Times are of the processor, where they are bounds: other programs of this machine do not
// count.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  addMessages, agentClaims, DEADLINE_MS, eventually, isUnread, launch, longestTask, openConversation, openDashboard,
  openInList, organization, rowOf, shoot, shownMessages, sql, visitorClaims, writeAs,
} from './support.js'

/** Longer tasks are felt. */
const TASK_MS = 50

let browser
before(async () => { browser = await launch() })
after(() => browser?.close())

const timeout = DEADLINE_MS * 3

/** A scroll is seen by the page, and answered, in the next frame. */
const frame = (page) => page.evaluate(() => new Promise((resolve) => {
  requestAnimationFrame(() => setTimeout(resolve, 0))
}))

/** Waits until a conversation that is read at its end shows this last. */
const endsWith = (page, text) => eventually(async () => {
  const shown = await shownMessages(page)
  return shown.at(-1) === text || [shown.length, shown.at(-1), await page.locator('.messages').evaluate((box) =>
    [box.scrollTop, box.clientHeight, box.scrollHeight, box.ariaBusy]), await page.locator('.to-end').count()]
}, `the last message is ${text}`)

/** Where the reader is, once that has not changed for ten frames in a row. */
async function placeAtRest(page, look) {
  let place = JSON.stringify(await look())
  for (let [same, deadline] = [0, Date.now() + DEADLINE_MS]; same < 10; ) {
    await frame(page)
    const now = JSON.stringify(await look())
    same = now === place ? same + 1 : 0
    place = now
    assert.ok(Date.now() < deadline, `it still moves: ${place}`)
  }
  return JSON.parse(place)
}

test('five hundred messages in a burst: all are shown once, unread is exact, and no task is long', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  await openInList(page, conversation)
  const longest = await longestTask(page, async () => {
    // One transaction each.
    await sql(`do $$ begin
      for n in 1..500 loop
        insert into messages (organization_id, conversation_id, content, sender_type)
          values ('${organization}', case n % 2 when 0 then '${conversation}' else '${other}' end::uuid, 'burst ' || n, 'visitor');
        commit;
      end loop;
    end $$`)
    await isUnread(page, other, 250)
  })
  await endsWith(page, 'burst 500')
  const shown = await shownMessages(page)
  assert.deepEqual(shown, Array.from({ length: shown.length }, (_, index) => `burst ${500 - 2 * (shown.length - 1 - index)}`))
  await isUnread(page, conversation, 0)
  await page.reload()
  await isUnread(page, other, 250)
  t.diagnostic(`longest task: ${longest.toFixed(1)} ms`)
  assert.ok(longest <= TASK_MS, `a task took ${longest} ms`)
})

test('five thousand messages in one transaction', { timeout }, async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  await openInList(page, conversation)
  const longest = await longestTask(page, async () => {
    await sql(`begin;
      insert into messages (organization_id, conversation_id, content, sender_type)
        select '${organization}', '${other}', 'other ' || n, 'visitor' from generate_series(1, 2500) n;
      insert into messages (organization_id, conversation_id, content, sender_type, created_at)
        select '${organization}', '${conversation}', 'at once ' || n, 'visitor', now() + n * interval '1 microsecond'
        from generate_series(1, 2500) n;
      commit`)
    await endsWith(page, 'at once 2500')
    await eventually(async () => /99\+/.test(await rowOf(page, other).textContent()), 'unread')
  })
  t.diagnostic(`longest task: ${longest.toFixed(1)} ms`)
  assert.ok(longest <= TASK_MS, `a task took ${longest} ms`)
})

test('ten thousand messages: the newest show at once, older ones as one scrolls, and the place is kept', { timeout }, async (t) => {
  const conversation = await openConversation()
  await addMessages(conversation, 10_000, `'message ' || n || case n % 7 when 0 then repeat(' and more', n % 40) else '' end`)
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const opening = []
  // Told and not judged: other programs take the processor, too.
  for (let round = 0; round < 6; round += 1) {
    await page.evaluate(() => { location.hash = '' })
    await page.locator('.messages').waitFor({ state: 'detached' })
    opening.push(await page.evaluate((id) => new Promise((resolve) => {
      const from = performance.now()
      const seen = new MutationObserver(() => {
        if (!document.querySelector('.messages[aria-busy=false] .message')) return
        seen.disconnect()
        // The page draws in frames: a task later this one is drawn.
        setTimeout(() => resolve(performance.now() - from), 0)
      })
      seen.observe(document.querySelector('#desk'), { subtree: true, childList: true, attributes: true })
      location.hash = `#/${id}`
    }), conversation))
  }
  opening.sort((one, other) => one - other)
  t.diagnostic(`opened in ${opening.map((ms) => ms.toFixed(0)).join(', ')} ms`)
  assert.match((await shownMessages(page)).at(-1), /^message 10000\b/)
  await shoot(page, 'ten-thousand')

  const log = page.locator('.messages')
  const longest = await longestTask(page, async () => {
    await log.hover()
    await eventually(async () => {
      await page.mouse.wheel(0, -2_000)
      await frame(page)
      const oldest = Number((await shownMessages(page))[0].split(' ')[1])
      return oldest <= 8_000 || oldest
    }, 'scrolled up to message 8000')
  })
  t.diagnostic(`longest task while scrolling: ${longest.toFixed(1)} ms`)
  assert.ok(longest <= TASK_MS, `a task took ${longest} ms`)
  // In order and without a hole.
  const numbers = (await shownMessages(page)).map((text) => Number(text.split(' ')[1]))
  assert.deepEqual(numbers, numbers.map((_, index) => numbers[0] + index))
  assert.ok(await page.locator('.message').count() <= 100, 'the page has only a window of them')

  // Whoever reads further up stays there.
  const placeOf = () => page.evaluate(() => {
    const box = document.querySelector('.messages')
    const top = box.getBoundingClientRect().top
    const first = [...box.querySelectorAll('.message')].find((one) => one.getBoundingClientRect().bottom > top)
    return [first.dataset.message, Math.round(first.getBoundingClientRect().top - top)]
  })
  const before = await placeAtRest(page, placeOf)
  for (let index = 0; index < 20; index += 1) await writeAs(visitorClaims(conversation), conversation, `new ${index}`)
  await isUnread(page, conversation, 20)
  assert.deepEqual(await placeAtRest(page, placeOf), before)
  await page.getByRole('button', { name: /new$/ }).click()
  await endsWith(page, 'new 19')
  await isUnread(page, conversation, 0)
})

test('five thousand conversations: the list stays smooth and sorted while events arrive', { timeout }, async (t) => {
  await sql(`insert into conversations (organization_id, customer_name, created_at, updated_at)
    select '${organization}', 'Many ' || n, now() - n * interval '1 minute', now() - n * interval '1 minute'
    from generate_series(1, 5000) n`)
  t.after(() => sql(`delete from conversations where customer_name like 'Many %'`))
  const page = await openDashboard(t, browser, { claims: agentClaims() })
  const rows = page.locator('.rows')
  const height = () => rows.evaluate((box) => box.scrollHeight)
  // To the very end of all pages.
  await eventually(async () => {
    await rows.evaluate((box) => { box.scrollTop = box.scrollHeight })
    return (await height()) / 76 >= 5_000 || (await height()) / 76
  }, 'all pages are loaded')
  assert.ok(await page.locator('.row').count() < 60, 'the page has only those in sight')

  const ids = (await sql(`select string_agg(id::text, ' ') from
    (select id from conversations where customer_name like 'Many %' order by random() limit 200) chosen`)).split(' ')
  const longest = await longestTask(page, async () => {
    const writing = sql(`do $$ declare one uuid; begin
      foreach one in array '{${ids.join(',')}}'::uuid[] loop
        insert into messages (organization_id, conversation_id, content, sender_type)
          values ('${organization}', one, 'hello from ' || one, 'visitor');
      end loop;
    end $$`)
    for (let step = 0; step < 40; step += 1) {
      await rows.evaluate((box, share) => { box.scrollTop = box.scrollHeight * share }, (step % 10) / 10)
      await frame(page)
    }
    await writing
    await rows.evaluate((box) => { box.scrollTop = 0 })
    await eventually(async () => /hello from/.test(await page.locator('.row').first().textContent()), 'they are at the top')
  })
  t.diagnostic(`longest task: ${longest.toFixed(1)} ms`)
  assert.ok(longest <= TASK_MS, `a task took ${longest} ms`)
  await shoot(page, 'five-thousand')

  // Whoever looks further down keeps that place, whatever moves to the top.
  await rows.evaluate((box) => { box.scrollTop = 2_000 * 76 + 10 })
  const first = () => page.evaluate(() => {
    const box = document.querySelector('.rows')
    const top = box.getBoundingClientRect().top
    const row = [...box.querySelectorAll('.row')].find((one) => one.getBoundingClientRect().bottom > top)
    return [row.dataset.id, Math.round(row.getBoundingClientRect().top - top), Number(row.ariaPosInSet)]
  })
  const [id, top, place] = await placeAtRest(page, first)
  const last = await sql(`select id from conversations where customer_name = 'Many 4999'`)
  await writeAs(visitorClaims(last), last, 'from the very end')
  // One more is above it, and it is where it was.
  await eventually(async () => {
    const seen = await first()
    return seen[0] !== id || seen[2] !== place || seen
  }, 'the list has changed')
  assert.deepEqual(await placeAtRest(page, first), [id, top, place + 1])
  await rows.evaluate((box) => { box.scrollTop = 0 })
  await eventually(async () => /from the very end/.test(await page.locator('.row[aria-posinset="1"]').textContent()), 'it is the first')
})

test('from the commit to the screen', { timeout }, async (t) => {
  const conversation = await openConversation()
  // Conversations of the test before are still going.
  const page = await openDashboard(t, browser, { claims: agentClaims(), allowed: [/status of 404/] })
  await openInList(page, conversation)
  await page.evaluate(() => {
    globalThis.painted = {}
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) {
        for (const node of addedNodes) {
          const text = node.querySelector?.('.text')?.textContent
          // The page draws in frames: a task later this one is drawn.
          if (text) setTimeout(() => { globalThis.painted[text] = performance.timeOrigin + performance.now() }, 0)
        }
      }
    }).observe(document.querySelector('.messages'), { childList: true, subtree: true })
  })
  const took = []
  for (let index = 0; index < 100; index += 1) {
    const committed = Number(await sql(`insert into messages (organization_id, conversation_id, content, sender_type)
      values ('${organization}', '${conversation}', 'timed ${index}', 'visitor')
      returning extract(epoch from clock_timestamp()) * 1000`))
    await eventually(() => page.evaluate((text) => text in globalThis.painted, `timed ${index}`), 'it is on the screen')
    took.push(await page.evaluate((text) => globalThis.painted[text], `timed ${index}`) - committed)
  }
  took.sort((one, other) => one - other)
  t.diagnostic(`commit to screen: p50 ${took[50].toFixed(1)} ms, p99 ${took[98].toFixed(1)} ms`)
})
