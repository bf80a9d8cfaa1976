// What the page says of the widget: attributes `data-…` of the loader's script, or attributes of the element.

export interface Options {
  organization: string
  /** Without a slash at its end. */
  relay: string
  locale: string | null
  color: string | null
  theme: 'auto' | 'light' | 'dark'
  position: 'right' | 'left'
  title: string | null
  greeting: string | null
  sound: boolean
  launcher: boolean
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Of attributes, by their names without `data-`; `origin` is where the script came from. */
export function parseOptions(read: (name: string) => string | null, origin: string): Options {
  const organization = read('organization')?.trim() ?? ''
  if (!UUID.test(organization)) throw new Error('data-organization must be a uuid')
  const relay = new URL(read('relay') ?? origin)
  if (!/^https?:$/.test(relay.protocol)) throw new Error('data-relay must be an http or https address')
  const choice = <Choice extends string>(name: string, choices: readonly [Choice, ...Choice[]]): Choice =>
    choices.find((one) => one === read(name)) ?? choices[0]
  return {
    organization: organization.toLowerCase(),
    relay: (relay.origin + relay.pathname).replace(/\/+$/, ''),
    locale: read('locale'),
    color: read('color'),
    theme: choice('theme', ['auto', 'light', 'dark']),
    position: choice('position', ['right', 'left']),
    title: read('title'),
    greeting: read('greeting'),
    sound: choice('sound', ['on', 'off']) === 'on',
    launcher: choice('launcher', ['shown', 'hidden']) === 'shown',
  }
}
