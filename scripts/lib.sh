# shellcheck shell=bash
# Functions that the scripts share: paths, and how to start, find and stop processes.
# This file is sourced, not run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=${RUN_DIR:-$root/.run}
# shellcheck disable=SC2034 # used by the scripts that source this file
profile=${PROFILE:-release}
# cargo puts the builds of its profile `dev` into the folder `debug`.
# shellcheck disable=SC2034
binaries=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}

say() { printf '%s\n' "$*"; }

fail() {
    say "$*" >&2
    exit 1
}

# Prints what distinguishes the process $1 from a later process with the same pid; fails if it has ended.
identity() {
    local stat
    if [ -r /proc/self/stat ]; then
        stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
        # After the name in brackets, field 1 is the state and field 20 is the start time in ticks since boot.
        # shellcheck disable=SC2086 # word splitting is intended
        set -- ${stat##*) }
        [ "$1" != Z ] && say "$(cat /proc/sys/kernel/random/boot_id) ${20}"
    else
        ps -o lstart= -p "$1"
    fi
}

# Prints the pid of the part $1 if it runs and is the process that `start` created.
pid_of() {
    local pid known
    { read -r pid && read -r known; } 2>/dev/null <"$run/pids/$1" || return 1
    [ "$(identity "$pid")" = "$known" ] && say "$pid"
}

# Starts the part $1 with the given command, in its own session and with its own log.
start() {
    local name=$1 detach=(nohup)
    shift
    if command -v setsid >/dev/null; then detach=(setsid nohup); fi
    mkdir -p "$run/pids" "$run/logs"
    rm -f "$run/pids/$name"
    # shellcheck disable=SC2016 # the new process expands these
    "${detach[@]}" bash -c 'source "$0"; become "$@"' "$root/scripts/lib.sh" "$name" "$@" >>"$run/logs/$name.log" 2>&1 </dev/null &
    while [ ! -e "$run/pids/$name" ] && kill -0 $! 2>/dev/null; do sleep 0.02; done
}

# Turns this process into the part $1, running the given command. It writes the pid file first, so that a kill of `make up`
# at any moment leaves no process that the next `make up` does not know.
become() {
    local file=$run/pids/$1
    shift
    { say $$ && identity $$; } >"$file.new"
    mv "$file.new" "$file"
    exec "$@"
}

# Stops the part $1, with SIGTERM first and SIGKILL after 15 s, and returns when it has ended.
stop() {
    local pid tries=0
    if pid=$(pid_of "$1"); then
        say "stopping $1"
        kill -TERM "$pid" 2>/dev/null || true
        while pid_of "$1" >/dev/null; do
            tries=$((tries + 1))
            if [ $tries -eq 150 ]; then kill -KILL "$pid" 2>/dev/null || true; fi
            sleep 0.1
        done
    fi
    rm -f "$run/pids/$1"
}

broker_runs() { [ -d "$run/rabbitmq" ] && "$root/scripts/rabbitmq-node" status "$run/rabbitmq"; }

busy() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

# Prints the processes that listen on port $1, as far as this user may see them.
listener() {
    local inode pid
    awk -v port=":$(printf %04X "$1")" '$4 == "0A" && $2 ~ port "$" { print $10 }' /proc/net/tcp /proc/net/tcp6 |
        while read -r inode; do find /proc/[0-9]*/fd -lname "socket:\[$inode\]"; done |
        cut -d/ -f3 | sort -un |
        while read -r pid; do say "$(cat "/proc/$pid/comm") (process $pid)"; done
} 2>/dev/null

refuse_if_busy() {
    local by
    if busy "$2"; then
        by=$(listener "${2##*:}" | paste -sd, || true)
        fail "port ${2##*:}, for $1, is in use by ${by:-a process that this user may not see}; stop it, or set $3"
    fi
}

# Starts eventstore-lite with a new database in the folder $1 and sets `store_address`; it ends with this script.
start_private_store() {
    local tries=0
    "${CARGO_TARGET_DIR:-target}/debug/eventstore-lite" --insecure --node-port 0 --db "$1/db" >"$1/log" &
    # shellcheck disable=SC2064 # $! must expand now: it is this process, not a later one
    trap "kill $! 2>/dev/null; rm -rf '$1'" EXIT
    until store_address=$(grep -o '"address":"[^"]*"' "$1/log" | cut -d'"' -f4) && [ -n "$store_address" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || fail "eventstore-lite does not start: $(cat "$1/log")"
        sleep 0.1
    done
}

# Succeeds if the npm packages in this folder are those of its lock file.
has_npm_packages() {
    [ -e node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ]
}

# Installs the npm packages of this folder, unless they are there.
install_npm_packages() {
    "$root/scripts/need" npm
    has_npm_packages || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
}

# Prints the Node that comes with the npm packages of this folder, or the one on the PATH where none comes with them.
node_of_packages() { ls node_modules/node-linux-*/bin/node 2>/dev/null || say node; }

# Runs a suite that prints a line for each check. The suite must pass; with a planted difference it must report that one.
with_control() {
    local name=$1 report
    shift
    say "== $name"
    "$@"
    say "== $name: a planted difference, which the suite must report"
    if report=$(PLANTED=1 "$@"); then fail "$name did not report a planted difference"; fi
    grep -q 'FAILED .*planted' <<<"$report" || fail "$name failed for another reason than the planted difference: $report"
}
