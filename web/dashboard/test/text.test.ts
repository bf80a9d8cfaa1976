import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ago, colorOf, dayOf, initials, nameOf, segments } from '../src/text.js'

test('only addresses of the web become links, without the punctuation after them', () => {
  assert.deepEqual(segments('see https://example.com/a?b=1#c. Or (http://x.example).'), [
    { text: 'see ', href: null },
    { text: 'https://example.com/a?b=1#c', href: 'https://example.com/a?b=1#c' },
    { text: '. Or (', href: null },
    { text: 'http://x.example', href: 'http://x.example' },
    { text: ').', href: null },
  ])
  for (const text of ['javascript:alert(1)', 'data:text/html,x', 'JAVASCRIPT:https', '<a href=x>', 'https://', '']) {
    assert.ok(segments(text).every(({ href }) => href === null), text)
    assert.equal(segments(text).map((segment) => segment.text).join(''), text)
  }
  const mixed = '"https://a.example"<script>https://b.example\'x'
  assert.equal(segments(mixed).map(({ text }) => text).join(''), mixed)
  assert.deepEqual(segments(mixed).flatMap(({ href }) => href ?? []), ['https://a.example', 'https://b.example'])
})

test('times are short, and days have names', () => {
  const now = Date.parse('2026-11-28T12:00:00Z')
  const before = (ms: number) => new Date(now - ms).toISOString()
  assert.deepEqual(
    [5_000, 5 * 60_000, 3 * 3_600_000].map((ms) => ago(before(ms), now)),
    ['now', '5m', '3h'],
  )
  // Clocks differ: what is just written may seem to come from the future.
  assert.equal(ago(before(-5_000), now), 'now')
  assert.equal(dayOf(before(1_000), now), 'Today')
  assert.equal(dayOf(before(86_400_000), now), 'Yesterday')
})

test('whoever has no name has an address, or is a visitor', () => {
  assert.equal(nameOf({ customer_name: ' Vera ', customer_email: null }), 'Vera')
  assert.equal(nameOf({ customer_name: '', customer_email: 'v@example.com' }), 'v@example.com')
  assert.equal(nameOf(undefined), 'Visitor')
  assert.deepEqual(['Vera Visitor', 'vera@example.com', '', '李 小龙', '👩‍🚀'].map(initials).slice(0, 4), ['VV', 'VC', '?', '李小'])
  assert.equal(colorOf('some id', 8), colorOf('some id', 8))
})
