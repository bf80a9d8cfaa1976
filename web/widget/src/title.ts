// The number of unread messages in front of the page's title. The page may change its title meanwhile.

const PREFIX = /^\(\d+\) /

export class TitleBadge {
  #count = 0
  #observer: MutationObserver | null = null

  set(count: number): void {
    this.#count = count
    if (count > 0 && !this.#observer) {
      this.#observer = new MutationObserver(() => this.#apply())
      this.#observer.observe(document.head, { childList: true, subtree: true, characterData: true })
    } else if (count === 0) {
      this.#observer?.disconnect()
      this.#observer = null
    }
    this.#apply()
  }

  #apply(): void {
    const own = document.title.replace(PREFIX, '')
    const title = this.#count > 0 ? `(${this.#count}) ${own}` : own
    if (document.title !== title) document.title = title
    // The change was ours.
    this.#observer?.takeRecords()
  }
}
