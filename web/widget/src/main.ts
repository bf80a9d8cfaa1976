// The bundle's door: the loader hands over where it came from, what the page wants, and the calls that have waited.
import { CampfireElement, define } from './element.js'
import { parseOptions } from './options.js'
import { type Call, Widget } from './widget.js'

export interface Start {
  /** Attributes of the loader's script. */
  read(name: string): string | null
  /** The relay that the loader came from. */
  origin: string
  /** Whether the loader's script says which organization: else elements of the page do. */
  isAutomatic: boolean
  calls: Call[]
  /** The widget is gone; a loader may be run again. */
  destroyed(): void
}

let widget: Widget | null = null

/** Returns what takes the page's calls from now on. */
export function start({ read, origin, isAutomatic, calls, destroyed }: Start): (call: Call) => void {
  const make = (options: ReturnType<typeof parseOptions>): Widget => {
    widget = new Widget(options, () => {
      widget = null
      CampfireElement.remove()
      destroyed()
    })
    // Calls that waited, and all that come until there is an element.
    for (const call of calls.splice(0)) widget.call(call)
    return widget
  }
  define({
    origin,
    widget: (options) => {
      try {
        return widget ?? make(options())
      } catch (error) {
        console.error(`campfire: ${(error as Error).message}`)
        return null
      }
    },
  })
  if (isAutomatic && !widget) {
    make(parseOptions(read, origin))
    if (widget) CampfireElement.place()
  }
  return (call) => {
    if (widget) widget.call(call)
    else calls.push(call)
  }
}
