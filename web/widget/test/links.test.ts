import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parts } from '../src/links.js'

const links = (text: string) => parts(text).filter(({ href }) => href !== null).map(({ text }) => text)

test('addresses become links, without what ends the sentence', () => {
  assert.deepEqual(links('see https://example.com/a?b=1#c, or http://example.org.'), ['https://example.com/a?b=1#c', 'http://example.org'])
  assert.deepEqual(links('(https://example.com/a)'), ['https://example.com/a'])
  assert.deepEqual(links('https://en.wikipedia.org/wiki/A_(b)'), ['https://en.wikipedia.org/wiki/A_(b)'])
})

test('nothing else does', () => {
  for (const text of [
    'javascript:alert(1)', 'data:text/html,<script>alert(1)</script>', 'https://', 'http://[', 'ftp://example.com',
    'https://bank.example@evil.example/', 'www.example.com', '//example.com',
  ]) assert.deepEqual(links(text), [], text)
})

test('the text is kept as it was', () => {
  for (const text of ['', 'plain', ' a https://x.example/"onmouseover=1 <b> \n https://y.example!', 'https://x.example']) {
    assert.equal(parts(text).map((part) => part.text).join(''), text)
  }
})

test('a link goes only to http and https', () => {
  for (const { href } of parts('https://x.example/<script> HTTPS://Y.example/javascript:alert(1)')) {
    if (href !== null) assert.match(href, /^https?:\/\//)
  }
})
