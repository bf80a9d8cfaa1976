// A client of a server that setup.sh started, and pgoutput made readable.
import pg from 'pg'

/** `sql(text)` gives the rows of the last statement. */
export async function connect(major) {
  const client = new pg.Client({ host: `${process.cwd()}/pg${major}`, user: 'postgres', database: 'postgres' })
  client.on('error', () => {})
  await client.connect()
  return client
}

export async function sql(client, text) {
  const result = await client.query(text)
  return (Array.isArray(result) ? result.at(-1) : result).rows
}

/** "error 42P10: message" or "ok". */
export async function attempt(client, text) {
  try {
    await client.query(text)
    return 'ok'
  } catch (error) {
    return `error ${error.code}: ${error.message}`
  }
}

const IDENTITIES = { d: 'default', n: 'nothing', f: 'full', i: 'index' }

/** Lines such as "relation public.t (a, b) identity full" and "insert t a=1 b=2", of protocol version 1. */
export async function decode(client, slot, publication) {
  const rows = await sql(client, `select data from pg_logical_slot_get_binary_changes('${slot}', null, null,
    'proto_version', '1', 'publication_names', '${publication}')`)
  const relations = new Map()
  return rows.map(({ data }) => line(data, relations)).filter(Boolean)
}

function line(data, relations) {
  let at = 1
  const int = (bytes) => {
    at += bytes
    return data.readUIntBE(at - bytes, bytes)
  }
  const text = () => {
    const end = data.indexOf(0, at)
    const found = data.toString('utf8', at, end)
    at = end + 1
    return found
  }
  const tuple = ({ columns }) => Array.from({ length: int(2) }, (_, index) => {
    const kind = String.fromCharCode(int(1))
    if (kind === 'n') return `${columns[index]}=null`
    if (kind === 'u') return `${columns[index]}=(unchanged TOAST)`
    const length = int(4)
    at += length
    const value = data.toString('utf8', at - length, at)
    return `${columns[index]}=${value.length > 20 ? `(${value.length} characters)` : value}`
  }).join(' ')
  switch (String.fromCharCode(data[0])) {
    case 'R': {
      const relation = { id: int(4), schema: text(), name: text(), identity: String.fromCharCode(int(1)) }
      relation.columns = Array.from({ length: int(2) }, () => {
        at += 1
        const name = text()
        at += 8
        return name
      })
      relations.set(relation.id, relation)
      return `relation ${relation.name} (${relation.columns.join(', ')}) identity ${IDENTITIES[relation.identity]}`
    }
    case 'I': {
      const relation = relations.get(int(4))
      at += 1
      return `insert ${relation.name} ${tuple(relation)}`
    }
    case 'U': {
      const relation = relations.get(int(4))
      let said = `update ${relation.name}`
      for (let kind = String.fromCharCode(int(1)); ; kind = String.fromCharCode(int(1))) {
        said += ` ${{ K: 'key', O: 'old', N: 'new' }[kind]}: ${tuple(relation)}`
        if (kind === 'N') return said
      }
    }
    case 'D': {
      const relation = relations.get(int(4))
      const kind = String.fromCharCode(int(1))
      return `delete ${relation.name} ${{ K: 'key', O: 'old' }[kind]}: ${tuple(relation)}`
    }
    case 'T':
      return `truncate of ${int(4)}`
    default:
      return null
  }
}
