// Elements without a parser: text is only ever text, so no Trusted Types policy is needed and no markup can come in.

type Value = string | boolean | ((event: never) => void)

/** Functions become listeners of the event that the name says; `true` is an attribute without a value. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, Value> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value as unknown as EventListener)
    else if (value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children)
  return element
}

const SVG = 'http://www.w3.org/2000/svg'

const PATHS = {
  chat: 'M12 3C6.5 3 2 6.8 2 11.5c0 2.6 1.4 4.9 3.6 6.5L5 21.5l4-1.9c1 .2 2 .4 3 .4 5.5 0 10-3.8 10-8.5S17.5 3 12 3Z',
  close: 'M6.4 5 5 6.4 10.6 12 5 17.6 6.4 19 12 13.4 17.6 19 19 17.6 13.4 12 19 6.4 17.6 5 12 10.6Z',
  down: 'M12 16.5 4.5 9l1.4-1.4L12 13.7l6.1-6.1L19.5 9Z',
  send: 'M3.4 20.4 21.5 12 3.4 3.6 3.4 10.2 15 12 3.4 13.8Z',
}

export function icon(name: keyof typeof PATHS): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('class', `icon-${name}`)
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS(SVG, 'path')
  path.setAttribute('d', PATHS[name])
  path.setAttribute('fill', 'currentColor')
  svg.append(path)
  return svg
}

/** Sets text only if it is another one: screen readers take every change of a status for news. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}
