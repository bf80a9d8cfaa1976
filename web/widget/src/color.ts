// The page's accent colour, with text on it that can be read (WCAG 2: at least 4.5:1, which black or white always has).

export interface Accent {
  accent: string
  onAccent: string
}

export const DEFAULT_ACCENT = '#c2410c'

const HEX = /^#(?:[0-9a-f]{3}|[0-9a-f]{6})$/i

export function accentOf(color: string | null): Accent {
  const accent = color !== null && HEX.test(color) ? color : DEFAULT_ACCENT
  const light = luminance(accent)
  return { accent, onAccent: 1.05 / (light + 0.05) >= (light + 0.05) / 0.05 ? '#ffffff' : '#000000' }
}

function luminance(hex: string): number {
  const digits = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join('') : hex.slice(1)
  const [red, green, blue] = [0, 2, 4].map((at) => {
    const value = parseInt(digits.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}
