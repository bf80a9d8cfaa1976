// Fails if what the relay embeds is not what the sources give.
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { build } from 'vite'

const assets = fileURLToPath(new URL('../../../relay/assets/dashboard/', import.meta.url))
const { output } = await build({ logLevel: 'warn', build: { write: false } })
const isSame = await Promise.all(output.map(async (file) => {
  const there = await readFile(assets + file.fileName).catch(() => null)
  return there !== null && there.equals(Buffer.from(file.type === 'chunk' ? file.code : file.source))
}))
const there = await readdir(assets).catch(() => [])
if (there.length !== output.length || isSame.includes(false)) {
  console.error('relay/assets/dashboard is not what web/dashboard gives: run `npm run build` in web/dashboard, and commit')
  process.exit(1)
}
