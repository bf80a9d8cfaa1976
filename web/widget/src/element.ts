// <campfire-widget>: where the widget is on the page. A page has one conversation, so of several elements one shows it;
// the others are empty until that one is gone.
import { type Options, parseOptions } from './options.js'
import { styles } from './view/styles.js'
import type { Widget } from './widget.js'

export const NAME = 'campfire-widget'

/** On the element that the loader makes, and so on every copy that a page's cache makes of it. */
const MADE_BY_LOADER = 'data-loader'

export interface Stage {
  /** Makes the widget that an element asks for, if the loader has not made one. */
  widget(options: () => Options): Widget | null
  /** Where the relay's files come from. */
  readonly origin: string
}

let stage: Stage | null = null
let active: CampfireElement | null = null

export class CampfireElement extends HTMLElement {
  #widget: Widget | null = null
  /** The loader's own, not a copy of it. */
  #isOriginal = false

  /** Puts the loader's element on the page: beside the body, which a page may exchange. */
  static place(): void {
    const element = document.createElement(NAME) as CampfireElement
    element.#isOriginal = true
    element.setAttribute(MADE_BY_LOADER, '')
    document.documentElement.append(element)
  }

  connectedCallback(): void {
    if (this.hasAttribute(MADE_BY_LOADER) && !this.#isOriginal) {
      this.remove()
    } else if (active === null || !active.isConnected) {
      if (active) active.#leave()
      this.#enter()
    }
  }

  /** `moveBefore()` moves it with all that it has. */
  connectedMoveCallback(): void {}

  disconnectedCallback(): void {
    // Who moves it the old way puts it back at once.
    queueMicrotask(() => {
      if (this.isConnected || active !== this) return
      if (this.#isOriginal) document.documentElement.append(this)
      else this.#leave()
    })
  }

  /** Takes the active element off the page for good. */
  static remove(): void {
    const element = active
    if (!element) return
    element.#isOriginal = false
    element.#leave()
    if (element.hasAttribute(MADE_BY_LOADER)) element.remove()
  }

  #enter(): void {
    const widget = stage?.widget(() => parseOptions((name) => this.getAttribute(name), stage!.origin)) ?? null
    if (!widget) return
    active = this
    this.#widget = widget
    const root = this.shadowRoot ?? this.attachShadow({ mode: 'open' })
    root.adoptedStyleSheets = [styles()]
    void widget.mount(root)
  }

  #leave(): void {
    if (active === this) active = null
    this.#widget?.unmount()
    this.#widget = null
    // Another one may have waited.
    const next = [...document.querySelectorAll<CampfireElement>(NAME)].find((element) => element !== this)
    if (active === null) next?.connectedCallback()
  }
}

export function define(theStage: Stage): void {
  stage = theStage
  if (!customElements.get(NAME)) customElements.define(NAME, CampfireElement)
}
