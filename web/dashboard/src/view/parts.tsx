// Small pieces of the page.
import { colorOf, initials } from '../text.js'

const PATHS = {
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.2 16.2 21 21',
  send: 'M4 12 20 4l-4 16-4.5-6.5zM11.5 13.5 20 4',
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6 6 18',
  down: 'M12 5v14M6 13l6 6 6-6',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  seen: 'M2.5 13l4 4 8-9M10.5 16l1 1 9-9',
  details: 'M12 11v6M12 7.5v.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z',
  chat: 'M4 5h16v11H9l-5 4z',
  retry: 'M19 8a8 8 0 1 0 1 6M20 4v5h-5',
  eye: 'M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z',
} as const

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  )
}

export const AVATAR_COLORS = 8

export function Avatar({ id, name, isOnline }: { id: string; name: string; isOnline?: boolean }) {
  return (
    <span class={`avatar color-${colorOf(id, AVATAR_COLORS)}`} aria-hidden="true">
      {initials(name)}
      {isOnline && <span class="dot" />}
    </span>
  )
}

export interface Choice {
  value: string
  label: string
}

export function Select({ label, value, choices, onChoose, isQuiet = false }: {
  label: string
  value: string
  choices: Choice[]
  onChoose: (value: string) => void
  /** The label is for those who do not see the box. */
  isQuiet?: boolean
}) {
  return (
    <label class={isQuiet ? 'field quiet' : 'field'}>
      <span class={isQuiet ? 'unseen' : ''}>{label}</span>
      <select value={value} onChange={({ currentTarget }) => onChoose(currentTarget.value)}>
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value} selected={choice.value === value}>{choice.label}</option>
        ))}
      </select>
    </label>
  )
}

export const capitalized = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1)
