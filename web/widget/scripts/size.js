// Says what the widget costs a page, and fails beyond the budget.
import { readFile, readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

/** Bytes. The loader counts as it is, since it holds up nothing only if it is small; all files count compressed. */
const LOADER_MAX = 5_000
const TOTAL_MAX = 40_000

const assets = fileURLToPath(new URL('../../../relay/assets/widget/', import.meta.url))
const rows = await Promise.all((await readdir(assets)).sort().map(async (name) => {
  const contents = await readFile(assets + name)
  return { name, bytes: contents.length, gzip: gzipSync(contents, { level: 9 }).length }
}))
const total = rows.reduce((sum, { gzip }) => sum + gzip, 0)
for (const { name, bytes, gzip } of rows) console.log(`${name.padEnd(28)} ${String(bytes).padStart(7)} ${String(gzip).padStart(7)} gzip`)
console.log(`${'all'.padEnd(28)} ${''.padStart(7)} ${String(total).padStart(7)} gzip of ${TOTAL_MAX}`)
const loader = rows.find(({ name }) => name === 'loader.js')?.bytes ?? Infinity
if (loader > LOADER_MAX || total > TOTAL_MAX) {
  console.error(`too large: loader.js may have ${LOADER_MAX} bytes, all files together ${TOTAL_MAX} compressed`)
  process.exit(1)
}
