import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { ApiError } from '../src/api.js'
import { accentOf, DEFAULT_ACCENT } from '../src/color.js'
import { chooseLanguage, english, loadLocale } from '../src/locale.js'
import { parseOptions } from '../src/options.js'
import { delay, isTransient } from '../src/retry.js'

const ORGANIZATION = '00000000-0000-4000-8000-00000000000A'
const parse = (attributes: Record<string, string>) =>
  parseOptions((name) => attributes[name] ?? null, 'https://chat.example/')

test('options have defaults, and the relay is where the loader came from', () => {
  const options = parse({ organization: ` ${ORGANIZATION} `, theme: 'purple', sound: 'off' })
  assert.deepEqual(options, {
    organization: ORGANIZATION.toLowerCase(), relay: 'https://chat.example', locale: null, color: null, theme: 'auto',
    position: 'right', title: null, greeting: null, sound: false, launcher: true,
  })
  assert.equal(parse({ organization: ORGANIZATION, relay: 'http://127.0.0.1:8080/base/?q#h' }).relay, 'http://127.0.0.1:8080/base')
})

test('what cannot work is refused', () => {
  assert.throws(() => parse({}), /uuid/)
  assert.throws(() => parse({ organization: 'x' }), /uuid/)
  assert.throws(() => parse({ organization: ORGANIZATION, relay: 'ftp://chat.example' }), /http/)
})

test('text on the accent can be read, whatever the accent is', () => {
  const channel = (hex: string, at: number) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }
  const luminance = (hex: string) => 0.2126 * channel(hex, 1) + 0.7152 * channel(hex, 3) + 0.0722 * channel(hex, 5)
  for (let color = 0; color < 0xffffff; color += 4111) {
    const { accent, onAccent } = accentOf(`#${color.toString(16).padStart(6, '0')}`)
    const [dark, light] = [luminance(accent), luminance(onAccent)].sort((a, b) => a - b) as [number, number]
    assert.ok((light + 0.05) / (dark + 0.05) >= 4.5, accent)
  }
  assert.equal(accentOf('#fff').onAccent, '#000000')
  assert.equal(accentOf('red;} *{}').accent, DEFAULT_ACCENT)
})

test('the first language that is there is chosen', () => {
  assert.equal(chooseLanguage(['pt-BR', 'de-AT', 'en']), 'de')
  assert.equal(chooseLanguage([null, '', 'AR']), 'ar')
  assert.equal(chooseLanguage(['constructor', 'xx']), 'en')
})

test('every locale has every word, and its own', async () => {
  const files = (await readdir(new URL('../src/locales/', import.meta.url))).filter((name) => name.endsWith('.js'))
  assert.equal(files.length, 5)
  for (const language of files.map((name) => name.replace('.js', ''))) {
    const locale = await loadLocale(language)
    assert.equal(locale.code, language)
    assert.deepEqual(Object.keys(locale).sort(), Object.keys(english).sort(), language)
    assert.ok(Object.values(locale).every(Boolean), language)
    for (const count of [1, 2, 3, 11, 100]) assert.match(locale.unread(count), /./)
  }
  assert.equal((await loadLocale('ar')).dir, 'rtl')
  assert.match(await readFile(new URL('../src/locales/ar.js', import.meta.url), 'utf8'), /رسالة/)
})

test('only what may succeed later is tried again, and not before the relay wants it', () => {
  for (const status of [0, 408, 429, 500, 503]) assert.equal(isTransient(new ApiError('x', 'x', status)), true, `${status}`)
  for (const status of [400, 401, 403, 404, 409, 422]) assert.equal(isTransient(new ApiError('x', 'x', status)), false, `${status}`)
  assert.equal(isTransient(new TypeError('a bug')), false)
  const backoff = { minMs: 1_000, maxMs: 30_000 }
  assert.deepEqual([0, 1, 2, 9].map((attempt) => delay(null, attempt, backoff, () => 0)), [1_000, 2_000, 4_000, 30_000])
  assert.equal(delay(new ApiError('x', 'x', 429, null, 45_000), 0, backoff, () => 0), 45_000)
})
