#!/usr/bin/env bash
# The type of a column that is in a publication's column list cannot be changed at all, and the error speaks of a WHERE
# clause that is not there.
#
# Software: PostgreSQL 15.18, 16.14, 17.10 and 18.4.
# Guess:    A column list chooses which columns are sent, and subscribers are told of a new type by the next Relation
#           message, as they are for a table that is published whole. A change that rewrites nothing, such as a longer
#           varchar, is harmless in any case.
# Seen:     Every ALTER COLUMN TYPE of a listed column is refused: also of a longer varchar, and also one to the type that
#           the column has. The message blames a "publication WHERE clause"; no publication here has one. The same table,
#           published without a list, may be altered, and so may columns that are not listed. It works if the table leaves
#           the publication and comes back with its list in the same transaction.
source "$(dirname "$0")/lib/setup.sh"
for major in 15 16 17 18; do postgres $major; done
javascript <<'JS' | seen_is "longer varchar, listed: 0A000 cannot alter type of a column used by a publication WHERE clause
the type it has, listed: 0A000 cannot alter type of a column used by a publication WHERE clause
not listed: ok
published without a list: ok
taken out and put back: ok
the same on 15, 16, 17, 18"
import { connect } from './postgres.mjs'
const seen = {}
for (const major of [15, 16, 17, 18]) {
  const client = await connect(major)
  await client.query(`create table listed (id int primary key, name varchar(10), note varchar(10));
    create table whole (id int primary key, name varchar(10));
    create publication p for table listed (id, name), table whole`)
  const steps = {
    'longer varchar, listed': 'alter table listed alter name type varchar(20)',
    'the type it has, listed': 'alter table listed alter name type varchar(10)',
    'not listed': 'alter table listed alter note type varchar(20)',
    'published without a list': 'alter table whole alter name type varchar(20)',
    'taken out and put back': `begin; alter publication p drop table listed; alter table listed alter name type text;
      alter publication p add table listed (id, name); commit`,
  }
  const lines = []
  for (const [what, statement] of Object.entries(steps)) {
    lines.push(`${what}: ${await client.query(statement).then(() => 'ok', ({ code, message }) => `${code} ${message}`)}`)
  }
  seen[major] = lines.join('\n')
  await client.end()
}
console.log(seen[15])
const same = Object.keys(seen).filter((major) => seen[major] === seen[15])
console.log(`the same on ${same.join(', ')}`)
for (const major of Object.keys(seen)) if (!same.includes(major)) console.log(`${major}:\n${seen[major]}`)
JS
