#!/usr/bin/env bash
# to_json() of an ordinary timestamp can be a text that JavaScript, and RFC 3339, cannot read.
#
# Software: PostgreSQL 15.18, 18.4; Node 20 or newer.
# Guess:    to_json() writes timestamps in ISO 8601 so that every JSON reader's date parser takes them, whatever the
#           session's time zone; only infinities and years before Christ are special.
# Seen:     The offset is the zone's of that day. Before zones were unified it was the local mean time, with seconds, and
#           to_json() writes them: +00:53:28. Date.parse() gives NaN. In Berlin that is the year 1890, in Monrovia 1971; the
#           same instant under UTC is read.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is '15.18
Europe/Berlin "1890-05-01T00:53:28+00:53:28" NaN
Africa/Monrovia "1971-05-01T00:15:30-00:44:30" NaN
UTC "1971-05-01T01:00:00+00:00" 41907600000
18.4
Europe/Berlin "1890-05-01T00:53:28+00:53:28" NaN
Africa/Monrovia "1971-05-01T00:15:30-00:44:30" NaN
UTC "1971-05-01T01:00:00+00:00" 41907600000'
import { connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  for (const [zone, instant] of [
    ['Europe/Berlin', '1890-05-01 00:00Z'], ['Africa/Monrovia', '1971-05-01 01:00Z'], ['UTC', '1971-05-01 01:00Z'],
  ]) {
    await sql(client, `set timezone = '${zone}'`)
    const [{ text }] = await sql(client, `select to_json('${instant}'::timestamptz)::text as text`)
    console.log(zone, text, Date.parse(JSON.parse(text)))
  }
  await client.end()
}
JS
