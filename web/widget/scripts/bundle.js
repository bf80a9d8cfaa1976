// Builds the files that the relay serves into relay/assets/widget/. `--check` writes nothing, and fails if what is there
// is not what the sources give.
import { createHash } from 'node:crypto'
import { readFile, readdir, mkdir, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, transform } from 'esbuild'
import { minify } from 'terser'

/** Those of the last two years: light-dark() is the newest that is used. */
const target = ['es2023', 'chrome123', 'firefox120', 'safari17.5']
const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const assets = here('../../../relay/assets/widget/')

/** What gzip makes least of. No property here does anything when it is only read. */
const compress = { passes: 3, ecma: 2020, sequences: false, pure_getters: true, lhs_constants: false }

/** 3 % less than esbuild gives. */
async function smaller(contents, module) {
  const code = new TextDecoder().decode(contents)
  const result = await minify(code, { module, ecma: 2020, compress, format: { ecma: 2020 } })
  return Buffer.from(result.code)
}

/** Every browser has a WebSocket: what realtime-js says where there is none is left out. */
const browserAlone = {
  name: 'browser-alone',
  setup: ({ onLoad }) => onLoad({ filter: /realtime-js.+websocket-factory\.js$/ }, async ({ path }) => {
    const [before, after] = (await readFile(path, 'utf8')).split("typeof WebSocket !== 'undefined'")
    if (after === undefined) throw new Error(`${path} asks for a WebSocket in another way`)
    return { contents: `${before}true${after}` }
  }),
}

const common = {
  absWorkingDir: here('..'),
  bundle: true,
  charset: 'utf8',
  legalComments: 'none',
  minify: true,
  target,
  write: false,
  logLevel: 'warning',
}

/** `name-<hash>.js`: the relay lets browsers keep such a file for ever. */
const hashed = (name, contents) => `${name}-${createHash('sha256').update(contents).digest('hex').slice(0, 16)}.js`

async function bundle() {
  const css = await transform(await readFile(here('../src/view/styles.css'), 'utf8'), { loader: 'css', minify: true, target })
  const { outputFiles } = await build({
    ...common,
    entryPoints: { widget: 'src/main.ts' },
    outdir: 'out',
    format: 'esm',
    splitting: true,
    plugins: [browserAlone],
    chunkNames: '[name]-chunk',
    define: { STYLES: JSON.stringify(css.code.trim()) },
  })
  const built = new Map(await Promise.all(outputFiles.map(async ({ path, contents }) =>
    [basename(path), await smaller(contents, true)])))
  const files = new Map()
  // Locales first: the bundle names them, and the loader names the bundle.
  let main = built.get('widget.js').toString()
  for (const [name, contents] of built) {
    if (name === 'widget.js') continue
    const final = hashed(name.replace('-chunk.js', ''), contents)
    if (!main.includes(name)) throw new Error(`only the bundle may import a chunk: ${name}`)
    main = main.replaceAll(name, final)
    files.set(final, contents)
  }
  const entry = hashed('widget', main)
  files.set(entry, Buffer.from(main))
  const loader = await build({
    ...common,
    entryPoints: ['src/loader.ts'],
    format: 'iife',
    define: { BUNDLE: JSON.stringify(entry) },
  })
  return files.set('loader.js', await smaller(loader.outputFiles[0].contents, false))
}

const files = await bundle()
const there = await readdir(assets).catch(() => [])
if (process.argv.includes('--check')) {
  const isSame = await Promise.all([...files].map(async ([name, contents]) =>
    there.includes(name) && Buffer.compare(await readFile(assets + name), contents) === 0))
  if (there.length !== files.size || isSame.includes(false)) {
    console.error('relay/assets/widget is not what web/widget gives: run `npm run build` in web/widget, and commit')
    process.exit(1)
  }
} else {
  await rm(assets, { recursive: true, force: true })
  await mkdir(assets, { recursive: true })
  for (const [name, contents] of files) await writeFile(assets + name, contents)
}
