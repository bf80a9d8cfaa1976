// A short sound for a message that the visitor does not see come in: only after a gesture, which browsers ask for, and
// in one tab only. It is made, not fetched: no content policy can forbid it.

/** How long a message is taken care of: a tab that hears of it later makes no sound. */
const TAKEN_MS = 4_000
/** Tabs in the background let those go first that the visitor looks at. */
const BACKGROUND_MS = 250

export class Sound {
  #context: AudioContext | null = null
  #isClosed = false

  /** `isSeen`: this tab shows the message already, so no tab needs to make a sound. */
  async message(id: string, isSeen: boolean): Promise<void> {
    const { locks, userActivation } = navigator
    // Without locks (pages that are no secure context) tabs cannot agree.
    if (!locks || (!isSeen && !userActivation?.hasBeenActive)) return
    if (document.visibilityState === 'hidden') await wait(BACKGROUND_MS)
    await locks.request(`campfire:sound:${id}`, { ifAvailable: true }, async (lock) => {
      if (!lock || this.#isClosed) return
      if (!isSeen) await this.#play()
      await wait(TAKEN_MS)
    })
  }

  close(): void {
    this.#isClosed = true
    void this.#context?.close().catch(() => {})
    this.#context = null
  }

  async #play(): Promise<void> {
    try {
      const context = (this.#context ??= new AudioContext())
      if (context.state === 'suspended') await context.resume()
      for (const [index, frequency] of [660, 880].entries()) {
        const [oscillator, gain] = [context.createOscillator(), context.createGain()]
        const start = context.currentTime + index * 0.11
        oscillator.frequency.value = frequency
        gain.gain.setValueAtTime(0, start)
        gain.gain.linearRampToValueAtTime(0.12, start + 0.015)
        gain.gain.exponentialRampToValueAtTime(0.001, start + 0.35)
        oscillator.connect(gain).connect(context.destination)
        oscillator.start(start)
        oscillator.stop(start + 0.36)
      }
    } catch {
      // No device, or not allowed: the badge says it as well.
    }
  }
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
