#!/usr/bin/env bash
# Which minor release psql is decides whether the data of a refused COPY is skipped or run as SQL.
#
# Software: psql 15.18 and 15.20 (Debian 12's postgresql-client-15 15.18-0+deb12u1 and 15.20-0+deb12u1), PostgreSQL 15.18.
# Guess:    A minor release does not change what psql makes of a script. If the server refuses `copy … from stdin` before any
#           data, as it does for a table with row-level security, the lines up to `\.` are not read as data: psql was never
#           asked for any, and takes them for SQL. With no semicolon in them they and the next statement are one, which fails.
# Seen:     So it is with 15.18. With 15.20 the lines are skipped. A script that goes on after errors has other results on two
#           machines of one distribution, of which one takes its packages from the security archive.
# Needs:    Debian 12's apt, with both archives, to download the packages. They are unpacked into the temporary folder.
source "$(dirname "$0")/lib/setup.sh"
postgres 15
for version in 15.18 15.20; do
  apt-get download "postgresql-client-15=$version-0+deb12u1" > /dev/null 2>&1
  dpkg -x postgresql-client-15_"$version"-*.deb "psql-$version"
done
for version in 15.18 15.20; do
  echo "psql $version:"
  "psql-$version/usr/lib/postgresql/15/bin/psql" -h "$work/pg15" -U postgres -X -q -A -t 2>&1 <<'SQL' |
create role reader nologin;
create table notes (note text);
alter table notes enable row level security;
grant all on notes to reader;
set role reader;
\set VERBOSITY sqlstate
copy notes from stdin;
a note
\.
select 'the next statement';
reset role;
drop table notes;
drop role reader;
SQL
    sed 's/^psql:[^ ]* //'
done | seen_is 'psql 15.18:
ERROR:  0A000
invalid command \.
ERROR:  42601
psql 15.20:
ERROR:  0A000
the next statement'
