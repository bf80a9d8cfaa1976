#!/usr/bin/env bash
# DROP SCHEMA public CASCADE drops an extension of which nothing is in schema public.
#
# Software: PostgreSQL 15.18, 18.4.
# Guess:    An extension that is not relocatable, names no schema in its control file and makes a schema of its own belongs
#           to that schema, or to none.
# Seen:     CREATE EXTENSION notes the first schema of search_path as the extension's, and the extension depends on it. Its
#           only table is in a schema of its own; dropping "public", where there is nothing, takes the extension and the
#           table along. In a session with another search_path the same extension would depend on another schema.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do
  server $version
  extensions=pg$version/native/share/postgresql/extension
  printf "default_version = '1'\nrelocatable = false\n" > "$extensions/chat.control"
  printf 'create schema chat;\ncreate table chat.messages (id int primary key);\n' > "$extensions/chat--1.sql"
  postgres $version
done
javascript <<'JS' | seen_is "15.18
extension: public; table: chat.messages; relations in public: 0
after drop schema public cascade: extension: gone; table: gone
18.4
extension: public; table: chat.messages; relations in public: 0
after drop schema public cascade: extension: gone; table: gone"
import { connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  const where = async () => (await sql(client, `select e.extnamespace::regnamespace as schema, to_regclass('chat.messages') as messages
    from (select) as one left join pg_extension as e on e.extname = 'chat'`))[0]
  const say = ({ schema, messages }) => `extension: ${schema ?? 'gone'}; table: ${messages ?? 'gone'}`
  await sql(client, 'create extension chat')
  const [{ count }] = await sql(client, "select count(*)::int from pg_class where relnamespace = 'public'::regnamespace")
  console.log(`${say(await where())}; relations in public: ${count}`)
  await sql(client, 'set client_min_messages = warning; drop schema public cascade')
  console.log(`after drop schema public cascade: ${say(await where())}`)
  await client.end()
}
JS
