// The words of the widget. English is in the bundle; every other locale is a file of its own, fetched when it is used.
import en from './locales/en.js'

export interface Locale {
  /** For dates and numbers. */
  code: string
  dir: 'ltr' | 'rtl'
  title: string
  greeting: string
  open: string
  close: string
  /** Of the launcher, for `count` unread messages. */
  unread(count: number): string
  log: string
  placeholder: string
  send: string
  online: string
  away: string
  connecting: string
  reconnecting: string
  offline: string
  stale: string
  refused: string
  sending: string
  waiting: string
  failed: string
  tooLong: string
  retry: string
  discard: string
  seen: string
  sent: string
  typing: string
  earlier: string
  newest: string
  today: string
  yesterday: string
  you: string
  agent: string
  assistant: string
}

const OTHERS: Record<string, () => Promise<{ default: Locale }>> = {
  ar: () => import('./locales/ar.js'),
  de: () => import('./locales/de.js'),
  es: () => import('./locales/es.js'),
  fr: () => import('./locales/fr.js'),
}

export const english: Locale = en

/** Of the tags that are wished for, the first whose language is there. */
export function chooseLanguage(wishes: readonly (string | null | undefined)[]): string {
  for (const wish of wishes) {
    const language = wish?.toLowerCase().split(/[-_]/, 1)[0] ?? ''
    if (language === 'en' || Object.hasOwn(OTHERS, language)) return language
  }
  return 'en'
}

/** Rejects if the file cannot be fetched. */
export async function loadLocale(language: string): Promise<Locale> {
  const load = Object.hasOwn(OTHERS, language) ? OTHERS[language] : undefined
  return load ? (await load()).default : english
}
