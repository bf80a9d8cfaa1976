// The script of the page: it takes calls from the first moment on, and fetches the bundle without holding the page up.
// A classic script, so that it knows its own tag. It fetches by import(), which carries the tag's nonce along and is no
// sink of Trusted Types.
import type { Call } from './widget.js'
import type { Start } from './main.js'

/** The bundle's file, which has a hash in its name; put in by the bundler. */
declare const BUNDLE: string

type Campfire = ((...call: Call) => void) & {
  /** Calls that a page made before the loader came. */
  q?: Call[]
  isLoaded?: true
}

declare global {
  interface Window {
    campfire?: Campfire | undefined
  }
}

/** Between tries to fetch the bundle. */
const RETRY_MS = 5_000

function load(): void {
  const script = document.currentScript ?? document.querySelector('script[src*="/widget/loader.js"]')
  // A page that exchanges its body runs its scripts again.
  if (window.campfire?.isLoaded || !(script instanceof HTMLScriptElement)) return

  const calls: Call[] = [...(window.campfire?.q ?? [])].map((call) => [...call] as unknown as Call)
  let take: (call: Call) => void = (call) => void calls.push(call)
  const campfire: Campfire = (...call) => take(call)
  campfire.isLoaded = true
  window.campfire = campfire

  const base = new URL('.', script.src)
  const begin: Start = {
    read: (name) => script.getAttribute(`data-${name}`),
    origin: new URL('..', base).href,
    isAutomatic: script.hasAttribute('data-organization'),
    calls,
    destroyed: () => {
      if (window.campfire === campfire) window.campfire = undefined
    },
  }

  const fetchBundle = (attempt: number): void => {
    // A browser may remember that a module failed.
    const url = new URL(attempt === 0 ? BUNDLE : `${BUNDLE}?${attempt}`, base).href
    import(url).then((bundle: typeof import('./main.js')) => {
      if (window.campfire !== campfire) return
      take = bundle.start(begin)
    }).catch((error: unknown) => {
      if (attempt === 0) fail(error)
      setTimeout(() => fetchBundle(attempt + 1), RETRY_MS * Math.min(attempt + 1, 12))
    })
  }

  /** Nobody else can tell the page. */
  const fail = (error: unknown): void => {
    const message = `the bundle cannot be loaded: ${error instanceof Error ? error.message : String(error)}`
    console.warn(`campfire: bundle_unavailable: ${message}`)
    for (const [verb, event, handler] of calls) {
      if (verb !== 'on' || event !== 'error' || typeof handler !== 'function') continue
      queueMicrotask(() => handler({ code: 'bundle_unavailable', message, hint: null, status: 0 }))
    }
  }

  fetchBundle(0)
}

load()
