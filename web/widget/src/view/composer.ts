// Where the visitor writes.
import type { Locale } from '../locale.js'
import { h, icon } from './dom.js'

export interface ComposerHost {
  send(content: string): void
  typing(isTyping: boolean): void
}

export class Composer {
  readonly element: HTMLFormElement
  readonly #host: ComposerHost
  readonly #input: HTMLTextAreaElement
  readonly #button: HTMLButtonElement

  constructor(host: ComposerHost, locale: Locale) {
    this.#host = host
    this.#input = h('textarea', {
      rows: '1', placeholder: locale.placeholder, 'aria-label': locale.placeholder,
      enterkeyhint: 'send', autocomplete: 'off',
      input: () => this.#changed(),
      keydown: (event: KeyboardEvent) => this.#pressed(event),
      blur: () => host.typing(false),
    })
    this.#button = h('button', { class: 'send', type: 'submit', 'aria-label': locale.send }, icon('send'))
    this.element = h('form', {
      class: 'composer',
      submit: (event: Event) => {
        event.preventDefault()
        this.#submit()
      },
    }, this.#input, this.#button)
    this.#button.disabled = true
  }

  get text(): string {
    return this.#input.value
  }

  /** What was being written when the words around it changed. */
  set text(text: string) {
    this.#input.value = text
    this.#fit()
  }

  focus(): void {
    this.#input.focus({ preventScroll: true })
  }

  #pressed(event: KeyboardEvent): void {
    // Enter may also choose a word of an input method.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return
    event.preventDefault()
    this.#submit()
  }

  #changed(): void {
    this.#fit()
    this.#host.typing(this.#input.value.trim() !== '')
  }

  #submit(): void {
    const content = this.#input.value.trim()
    if (content === '') return
    this.#input.value = ''
    this.#fit()
    this.#host.send(content)
    this.focus()
  }

  #fit(): void {
    this.#button.disabled = this.#input.value.trim() === ''
    // The placeholder is in the widget's language, what is written in the visitor's.
    this.#input.dir = this.#input.value === '' ? '' : 'auto'
    this.#input.style.height = 'auto'
    if (this.#input.value !== '') this.#input.style.height = `${this.#input.scrollHeight}px`
  }
}
