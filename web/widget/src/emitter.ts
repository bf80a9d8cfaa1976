// Listeners of the page's. What one of them throws is the page's own error and stops nothing here.

export type Handler = (detail: unknown) => void

export class Emitter {
  readonly #handlers = new Map<string, Set<Handler>>()

  on(event: string, handler: Handler): void {
    const handlers = this.#handlers.get(event) ?? new Set()
    this.#handlers.set(event, handlers.add(handler))
  }

  /** Without a handler: all of this event. */
  off(event: string, handler?: Handler): void {
    if (handler) this.#handlers.get(event)?.delete(handler)
    else this.#handlers.delete(event)
  }

  emit(event: string, detail: unknown): void {
    for (const handler of [...(this.#handlers.get(event) ?? [])]) {
      try {
        handler(detail)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }

  clear(): void {
    this.#handlers.clear()
  }
}
