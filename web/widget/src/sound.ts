// A short sound for a message that the visitor does not see come in: only after a gesture, which browsers ask for, and
// in one tab only. It is made, not fetched: no content policy can forbid it.

/** After a sound there is none for so long, in no tab: neither a second tab's for the same message, nor one for each
 * message of a burst. */
const PAUSE_MS = 2_000
/** Tabs in the background let those go first that the visitor looks at. */
const BACKGROUND_MS = 250

export class Sound {
  #context: AudioContext | null = null
  #isBusy = false
  #isClosed = false

  /** `isSeen`: this tab shows the message already, so no tab needs to make a sound. */
  async message(isSeen: boolean): Promise<void> {
    const { locks, userActivation } = navigator
    // Without locks (pages that are no secure context) tabs cannot agree.
    if (this.#isBusy || !locks || (!isSeen && !userActivation?.hasBeenActive)) return
    this.#isBusy = true
    if (document.visibilityState === 'hidden') await wait(BACKGROUND_MS)
    await locks.request('campfire:sound', { ifAvailable: true }, async (lock) => {
      if (!lock || this.#isClosed) return
      if (!isSeen) await this.#play()
      await wait(PAUSE_MS)
    })
    this.#isBusy = false
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
