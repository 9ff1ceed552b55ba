#!/bin/sh
# Tidegate's hand on a machine that is reached by SSH: makes, watches and ends instances below its own directory, the
# one above the folder that this file lies in. Plain POSIX sh (dash, busybox ash, bash); needs flock, setsid, mktemp
# and sha256sum beside it.
#
#   bin/remote-<sha256>.sh     this program, as a node brought it
#   store/<sha256>             programs and files, each copied once; hard links to them are what instances use
#   launch.lock                held while an instance is being made or removed
#   instances/<launch>/        labels, token, log, spawned, starter, stopping; of the wrapper: lock, address, ended
#   staging/<launch>/          an instance being made; becomes instances/<launch> in one rename
#   trash/<launch>/            an instance being removed
#   gone/<launch>              it was terminated: a launch that arrives late starts nothing
#
# An instance is alive while its wrapper holds the lock on instances/<launch>/lock, which the kernel drops with it.
#
# A call is one verb. Everything that is not a digest or a launch id comes on standard input as lines of key=value,
# counted by the last one, in which unusual bytes are octal escapes of printf's %b. Nothing that came is ever evaluated.
# The answer has the same form, so that either side knows a message that broke off from a whole one.
#
# As a forced command (`remote.sh --forced`) it takes the verbs below from SSH_ORIGINAL_COMMAND and refuses all else.

umask 077
LC_ALL=C
# A wrapper takes its lock first of all; this much is for a small box that is swapping.
start_timeout_cs=1000
# What a wrapper gets beyond its drain timeout to write down why it ended, before it is killed.
grace_cs=200
# A program that does not tell its version in this time is not going to serve.
try_timeout_s=10
# What nobody used for this long leaves the store; what an instance uses has a second link and stays.
store_days=7
# No call is under way for longer than a day, so a termination need not be remembered longer.
gone_days=1

lines=0
say() {
    printf '%s\n' "$1"
    lines=$((lines + 1))
}

finish() {
    printf 'end=%s\n' "$lines"
    exit 0
}

fail() {
    say "error=$1"
    say "words=$2"
    finish
}

disk_free_kb() {
    df -Pk "$root" 2>/dev/null | tail -n 1 | {
        read -r _ _ _ free _
        printf '%s' "$free"
    }
}

# Sorts why a file command failed by its own words: a person must mend it, there is no room, or it may work later.
fail_io() {
    words=$(printf '%s' "$1" | tail -n 1)
    case $words in
        *'No space left'* | *'uota exceeded'*) fail full "$words" ;;
        # What some shells say of a full disk, and of a broken one.
        *'I/O error'* | *'write error'*)
            [ "$(disk_free_kb)" -ge 64 ] || fail full 'no space left'
            fail failed "$words"
            ;;
        *'ermission denied'* | *'ead-only file system'* | *'ot a directory'* | *'File exists'*) fail unwritable "$words" ;;
        *) fail failed "$words" ;;
    esac
}

prepare() {
    [ -d "$root/gone" ] && [ -e "$root/launch.lock" ] && [ -w "$root/instances" ] && return
    words=$(mkdir -p "$root/store" "$root/instances" "$root/staging" "$root/trash" "$root/gone" 2>&1) || fail_io "$words"
    words=$(touch "$root/launch.lock" "$root/instances" 2>&1) || fail_io "$words"
}

# One launch or removal at a time, whoever asks; the wrapper's starter holds a copy until the wrapper has its mark.
lock_launches() {
    exec 8>>"$root/launch.lock"
    flock 8 || fail failed "cannot lock $root/launch.lock"
}

unlock_launches() {
    exec 8>&-
}

nap() {
    sleep 0.02 2>/dev/null || sleep 1
}

is_launch() {
    case $1 in '' | -* | *- | *[!a-z0-9-]*) return 1 ;; esac
    [ ${#1} -le 63 ]
}

is_digest() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq 64 ]
}

# Undoes the octal escapes of one line, into $text. The dot keeps the line breaks at its end.
decode() {
    case $1 in
        *\\*) text=$(printf '%b.' "$1") && text=${text%.} ;;
        *) text=$1 ;;
    esac
}

# The first line of a file, into $line, and not more of it than a sentence takes.
first_line() {
    line=
    [ -s "$1" ] && line=$(dd if="$1" bs=4096 count=1 2>/dev/null | head -n 1)
    [ -n "$line" ]
}

# The wrapper's process id, into $pid. Once it stands there, the wrapper has had the lock.
read_pid() {
    pid=
    [ -s "$1/lock" ] && read -r pid <"$1/lock"
    case $pid in '' | 1 | *[!0-9]*) pid= ;; esac
    [ -n "$pid" ]
}

# Whether a wrapper holds the lock. Looking takes it for an instant, shared; a wrapper that starts in that instant gives
# up: ask only once a process id stands in the lock or the time to start is over.
is_held() {
    [ -e "$1/lock" ] || return 1
    flock -n -s 7 7<"$1/lock"
    [ $? -eq 1 ]
}

# Whether a process belongs to the instance in a directory: all of its processes inherit the mark, whatever group or
# session they move to. Line breaks inside a variable must not look like the end of it.
is_marked() {
    { tr '\n\000' '\001\n' <"/proc/$1/environ" | grep -qxF "TIDEGATE_INSTANCE_DIR=$2"; } 2>/dev/null
}

# Environments that may hold the mark. Some greps do not see behind a NUL: then all that can be read.
candidates() {
    if printf 'a\000b' | grep -qF b; then
        grep -lsF "TIDEGATE_INSTANCE_DIR=$1" /proc/[0-9]*/environ
    else
        for environ in /proc/[0-9]*/environ; do
            [ -r "$environ" ] && printf '%s\n' "$environ"
        done
    fi
}

# The process ids of an instance, into $pids.
processes_of() {
    pids=
    for environ in $(candidates "$1"); do
        one=${environ#/proc/}
        one=${one%/environ}
        [ "$one" != $$ ] && is_marked "$one" "$1" && pids="$pids $one"
    done
}

sweep() {
    processes_of "$1"
    [ -z "$pids" ] && return 1
    kill -9 $pids 2>/dev/null
    return 0
}

# The labels of a directory into $l_…, each line as it stands, so that they are told without being understood.
read_labels() {
    l_launch= l_fleet= l_node= l_session= l_service= l_drain= l_made= l_end=
    [ -r "$1/labels" ] && {
        IFS= read -r l_launch
        IFS= read -r l_fleet
        IFS= read -r l_node
        IFS= read -r l_session
        IFS= read -r l_service
        IFS= read -r l_drain
        IFS= read -r l_made
        IFS= read -r l_end
    } <"$1/labels"
    drain_ms=${l_drain#drain_ms=}
    case $drain_ms/${l_session#session=} in /* | */ | *[!0-9/]*) return 1 ;; esac
    case $l_fleet$newline$l_node$newline$l_service in fleet=*"$newline"node=*"$newline"service=*) ;; *) return 1 ;; esac
    [ "$l_launch" = "launch=${1##*/}" ] && [ "$l_end" = 'labels=complete' ]
}

# Hundredths of a second since a moment of this boot, into $since_cs; empty if the machine was restarted since.
since() {
    since_cs=
    case ${1#* } in '' | *[!0-9]*) return ;; esac
    if [ "${1%% *}" = "$boot" ]; then since_cs=$((now_cs - ${1#* })); fi
}

# A wrapper that gives up prints why as its last line.
with_last_words() {
    reason=$1
    [ -s "$2/log" ] || return
    line=$(tail -c 4096 "$2/log" 2>/dev/null | grep -v '^[[:space:]]*$' | tail -n 1)
    [ -z "$line" ] || reason="$1: $line"
}

# What an instance's files and its lock say about it, into $state, $reason, $address and $since_cs (its age). Its labels
# are read.
look() {
    state=ended reason= address=
    if [ -s "$1/spawned" ] && IFS= read -r stamp <"$1/spawned"; then since "$stamp"; else since "${l_made#made=}"; fi
    # Written when the server is gone: what is left of the wrapper is its exit.
    if first_line "$1/ended"; then
        reason=$line
        return
    fi
    if [ -z "$since_cs" ]; then
        reason='the machine was restarted'
        return
    fi
    if ! read_pid "$1" && [ "$since_cs" -lt "$start_timeout_cs" ] && ! has_failed_to_start "$1"; then
        state=pending
        return
    fi
    if is_held "$1"; then
        state=pending
        [ -s "$1/address" ] && IFS= read -r address <"$1/address"
        case $address in *:*[0-9]) state=running ;; *) address= ;; esac
        return
    fi
    # The end may have been written since it was looked for.
    if first_line "$1/ended"; then
        reason=$line
    elif read_pid "$1"; then
        with_last_words 'the wrapper was killed, or crashed' "$1"
    else
        with_last_words 'never started' "$1"
    fi
}

# The process that was to become the wrapper, into $starter: whether it still is there, and has not ended unreaped.
starter_lives() {
    starter= stat=
    [ -s "$1/starter" ] && read -r starter <"$1/starter"
    [ -n "$starter" ] && [ -d "/proc/$starter" ] || return 1
    { IFS= read -r stat <"/proc/$starter/stat"; } 2>/dev/null
    case ${stat##*) } in '' | Z* | X*) return 1 ;; esac
}

has_failed_to_start() {
    ! starter_lives "$1" && [ -n "$starter" ]
}

# Whether it is between two programs, for an instant in which its environment, and with it the mark, reads as empty.
is_becoming() {
    read_labels "$1" && look "$1"
    [ "${since_cs:-$start_timeout_cs}" -lt "$start_timeout_cs" ] && starter_lives "$1" &&
        [ -z "$({ tr -d '\000' <"/proc/$starter/environ" | head -c 1; } 2>/dev/null)" ] && starter_lives "$1"
}

show() {
    say "instance=${1##*/}"
    say "$l_fleet"
    say "$l_node"
    say "$l_session"
    say "$l_service"
    say "state=$state"
    say "address=$address"
    say "reason=$reason"
    say "age_cs=$since_cs"
}

# How many instances are alive, into $alive. One whose labels cannot be read is while its lock is held.
count_alive() {
    alive=0
    for one_dir in "$root"/instances/*; do
        is_launch "${one_dir##*/}" || continue
        if read_labels "$one_dir"; then
            look "$one_dir"
            [ "$state" = ended ] || alive=$((alive + 1))
        else
            is_held "$one_dir" && alive=$((alive + 1))
        fi
    done
}

# --- the verbs ---

verb_hello() {
    missing=
    for tool in flock setsid sha256sum mktemp env tr grep find tail head dd touch; do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    say "root=$root"
    say "missing=${missing# }"
    finish
}

verb_probe() {
    prepare
    count_alive
    port=${SSH_CONNECTION:-}
    say "user=$(id -un 2>/dev/null)"
    say "host=$(uname -n)"
    say "machine=$(uname -m)"
    say "cpus=$(getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c ^processor /proc/cpuinfo)"
    say "memory_kb=$(grep '^MemAvailable' /proc/meminfo | tr -cd 0-9)"
    say "disk_kb=$(disk_free_kb)"
    say "alive=$alive"
    say "port=${port##* }"
    say "forced=$forced"
    finish
}

# Runs a program for its version: whether it can run here is found out before anything counts on it.
try_program() {
    limit=
    command -v timeout >/dev/null && limit="timeout $try_timeout_s"
    told=$($limit "$1" --version </dev/null 2>&1)
    status=$?
    told=$(printf '%s' "$told" | head -c 300 | head -n 1)
    [ $status -eq 0 ]
}

fail_program() {
    fail program "exit status $status on this $(uname -m): $told"
}

verb_put() {
    is_digest "$1" || fail refused 'no digest'
    prepare
    [ -f "$root/store/$1" ] && finish
    new=$(mktemp "$root/store/new.XXXXXX" 2>&1) || fail_io "$new"
    trap 'rm -f "$new"' EXIT
    words=$(cat 2>&1 >"$new") || fail_io "$words"
    sum=$(sha256sum <"$new")
    [ "${sum%% *}" = "$1" ] || fail truncated 'what arrived is not what its digest says'
    chmod 700 "$new"
    if [ "$2" = program ]; then try_program "$new" || fail_program; fi
    words=$(mv -f "$new" "$root/store/$1" 2>&1) || fail_io "$words"
    find "$root/store" -type f -links 1 -mtime "+$store_days" -exec rm -f {} + 2>/dev/null
    finish
}

verb_has() {
    is_digest "$1" || fail refused 'no digest'
    if [ -f "$root/store/$1" ]; then say 'stored=yes'; else say 'stored=no'; fi
    finish
}

verb_try() {
    is_digest "$1" || fail refused 'no digest'
    try_program "$root/store/$1" || fail_program
    say "version=$told"
    finish
}

# The request, whole or not at all: nothing is done for one that broke off.
read_request() {
    r_launch= r_root= r_labels= r_max= r_program= r_files= r_token= r_nice=0 r_memory_kb= r_run= r_end= read_lines=0
    r_fleet= r_node=
    while IFS= read -r line; do
        case $line in
            launch=*) r_launch=${line#*=} r_labels=$line ;;
            root=*) r_root=${line#*=} ;;
            fleet=*) r_fleet=$line r_labels="$r_labels$newline$line" ;;
            node=*) r_node=$line r_labels="$r_labels$newline$line" ;;
            session=* | service=* | drain_ms=*) r_labels="$r_labels$newline$line" ;;
            max=*) r_max=${line#*=} ;;
            nice=*) r_nice=${line#*=} ;;
            memory_kb=*) r_memory_kb=${line#*=} ;;
            program=*) r_program=${line#*=} ;;
            file=*) r_files="$r_files${line#*=}$newline" ;;
            token=*) r_token=${line#*=} ;;
            env=* | arg=*) r_run="$r_run$line$newline" ;;
            end=*)
                r_end=${line#*=}
                break
                ;;
        esac
        read_lines=$((read_lines + 1))
    done
    [ "$r_end" = "$read_lines" ] && is_launch "$r_launch" && is_digest "$r_program"
}

# What has to be copied here first, into $needed.
find_needed() {
    needed=
    [ -f "$root/store/$r_program" ] || needed=$r_program
    while read -r digest _; do
        [ -z "$digest" ] || [ -f "$root/store/$digest" ] || needed="$needed $digest"
    done <<END
$r_files
END
}

# Gives an instance a stored file under a name of its own. A link keeps the file when the store drops it.
place() {
    ln "$root/store/$1" "$2" 2>/dev/null || cp -p "$root/store/$1" "$2"
    touch "$root/store/$1"
}

fill() {
    printf '%s\nmade=%s %s\nlabels=complete\n' "$r_labels" "$boot" "$now_cs" >"$1/labels" &&
        printf '%s' "$r_token" >"$1/token" &&
        place "$r_program" "$1/tidegate" &&
        mkdir "$1/files" &&
        while read -r digest name; do
            [ -n "$digest" ] || continue
            decode "$name"
            place "$digest" "$1/files/$text" || return
        done <<END
$r_files
END
}

# Makes an instance's directory, complete in one step: a crash leaves it whole or not at all.
make() {
    staging=$root/staging/$r_launch
    rm -rf "$staging"
    words=$({ mkdir "$staging" && fill "$staging" && mv "$staging" "$dir"; } 2>&1) && return
    rm -rf "$staging"
    fail_io "$words"
}

# Starts the wrapper in a session of its own with every descriptor of ours closed, so that the call can end. Nothing of
# this session's environment goes with it but what finds programs.
spawn() {
    words=$({
        printf 'nice=%s\nmemory_kb=%s\n%s' "$r_nice" "$r_memory_kb" "$r_run" >"$dir/request" &&
            printf '%s %s\n' "$boot" "$now_cs" >"$dir/spawned"
    } 2>&1) || {
        # Nothing runs in it, so an error that says so leaves nothing to clean up.
        rm -rf "$dir"
        fail_io "$words"
    }
    env -i PATH="$PATH" HOME="$HOME" ${LANG+LANG="$LANG"} TIDEGATE_INSTANCE_DIR="$dir" \
        setsid sh "$self" run "$dir" </dev/null >>"$dir/log" 2>&1 &
}

# Whether a process was ever started in it: only where none was may a repeated launch start one.
was_spawned() {
    [ -s "$1/spawned" ] || read_pid "$1" || [ -s "$1/ended" ]
}

verb_launch() {
    read_request || fail truncated 'the request broke off'
    [ "$r_root" = "$root" ] || fail moved "$root"
    prepare
    lock_launches
    # It may have waited in that queue, and what it stamps is of now.
    read_uptime
    dir=$root/instances/$r_launch
    if [ -d "$dir" ]; then
        read_labels "$dir" || fail labels "$dir"
        [ "$l_fleet$newline$l_node" = "$r_fleet$newline$r_node" ] || fail taken "$l_fleet $l_node"
        # A crash fell between the directory and its process: this is the launch that mends it.
        if ! was_spawned "$dir" && [ ! -e "$root/gone/$r_launch" ]; then spawn; fi
    elif [ -e "$root/gone/$r_launch" ]; then
        fail gone 'it was terminated'
    else
        find_needed
        [ -z "$needed" ] || fail need "$needed"
        if [ -n "$r_max" ]; then
            count_alive
            [ "$alive" -lt "$r_max" ] || fail no_room "$alive"
        fi
        make
        spawn
    fi
    unlock_launches
    read_labels "$dir"
    await_address
    show "$dir"
    finish
}

# A wrapper listens some milliseconds after its start: waiting for that here spares the caller a round trip.
await_address() {
    tries=0
    look "$dir"
    while [ "$state" = pending ] && [ $tries -lt 8 ]; do
        sleep 0.01 2>/dev/null || return
        tries=$((tries + 1))
        look "$dir"
    done
}

# Becomes the wrapper. Internal: started by `spawn` alone.
verb_run() {
    dir=$1
    printf '%s\n' $$ >"$dir/starter"
    nice= memory_kb=
    set --
    while IFS= read -r line; do
        case $line in
            nice=*) nice=${line#*=} ;;
            memory_kb=*) memory_kb=${line#*=} ;;
            env=*) decode "${line#*=}" && export "$text" ;;
            arg=*) decode "${line#*=}" && set -- "$@" "$text" ;;
        esac
    done <"$dir/request"
    rm -f "$dir/request"
    cd "$dir" || exit
    unset OLDPWD
    # Of data, not of address space, which runtimes reserve far more of than they use.
    [ -z "$memory_kb" ] || ulimit -d "$memory_kb" || exit
    [ "$nice" = 0 ] || set -- nice -n "$nice" "$@"
    exec "$@" 8>&-
}

verb_describe() {
    is_launch "$1" || fail refused 'no launch id'
    dir=$root/instances/$1
    if [ -d "$dir" ]; then
        if read_labels "$dir"; then
            look "$dir"
            show "$dir"
        else
            # It may have been removed while it was looked at.
            [ -d "$dir" ] && fail labels "$dir"
        fi
    fi
    finish
}

verb_list() {
    for dir in "$root"/instances/*; do
        is_launch "${dir##*/}" || continue
        if read_labels "$dir"; then
            look "$dir"
            show "$dir"
        elif [ -d "$dir" ]; then
            say "corrupt=$dir"
        fi
    done
    finish
}

remove() {
    rm -rf "$root/staging/$1" "$root/trash/$1"
    [ ! -d "$dir" ] || mv "$dir" "$root/trash/$1" || return
    rm -rf "$root/trash/$1"
    find "$root/gone" -type f -mtime "+$gone_days" -exec rm -f {} + 2>/dev/null
    return 0
}

# Does what is due now to end an instance; $left says whether something of it is still there.
step() {
    left=no
    if [ ! -d "$dir" ]; then
        remove "$1"
        return
    fi
    read_labels "$dir" || fail labels "$dir"
    left=yes
    read_uptime
    {
        if flock -n 7; then
            # No wrapper lives, and while we hold the lock none can start: ends what it may have left behind.
            if is_becoming "$dir" || sweep "$dir"; then return; fi
            words=$(remove "$1" 2>&1) || fail_io "$words"
            left=no
        else
            insist
        fi
    } 7<>"$dir/lock"
}

# The wrapper is alive: asks it once to end, and kills it when it had its time.
insist() {
    read_pid "$dir"
    if [ -s "$dir/stopping" ] && IFS= read -r stamp <"$dir/stopping"; then
        since "$stamp"
        [ "${since_cs:-0}" -gt $((drain_ms / 10 + grace_cs)) ] || return
        if [ -n "$pid" ] && is_marked "$pid" "$dir"; then kill -9 "-$pid" 2>/dev/null; fi
        sweep "$dir"
    elif [ -n "$pid" ]; then
        if is_marked "$pid" "$dir"; then kill "$pid" 2>/dev/null; fi
        printf '%s %s\n' "$boot" "$now_cs" >"$dir/stopping"
    else
        # Between its lock and its process id it cannot be asked yet; its time runs all the same.
        look "$dir"
        [ "${since_cs:-$start_timeout_cs}" -lt "$start_timeout_cs" ] || sweep "$dir"
    fi
}

verb_stop() {
    is_launch "$1" || fail refused 'no launch id'
    prepare
    words=$(touch "$root/gone/$1" 2>&1) || case $words in *'No space left'*) ;; *) fail_io "$words" ;; esac
    dir=$root/instances/$1
    tries=0
    drain_ms=0 left=yes
    # Looks for a while before it answers: a round trip costs more than a nap.
    while :; do
        lock_launches
        step "$1"
        unlock_launches
        [ "$left" = yes ] && [ $tries -lt 8 ] || break
        tries=$((tries + 1))
        nap
    done
    pids=
    [ "$left" = no ] || processes_of "$dir"
    say "left=$left"
    say "drain_ms=$drain_ms"
    say "pids=${pids# }"
    finish
}

read_uptime() {
    read -r up _ </proc/uptime
    now_cs=${up%.*}${up#*.}
}

# --- one call ---

newline='
'
forced=no
case ${0%/*} in "$0") here=. ;; *) here=${0%/*} ;; esac
cd -P "$here/.." || exit
root=$PWD
self=$root/bin/${0##*/}
read -r boot </proc/sys/kernel/random/boot_id
read_uptime

if [ "${1-}" = run ]; then
    verb_run "$2"
    exit
fi
if [ "${1-}" = --forced ]; then
    forced=yes
    asked=${SSH_ORIGINAL_COMMAND-}
    # The connection itself is held by a `cat`, which ends with its standard input.
    [ "$asked" = cat ] && exec cat
    case $asked in
        *[!A-Za-z0-9\ ./_@+=,:-]*) set -- ;;
        'sh '*/bin/remote-*.sh\ *)
            set -f
            set -- $asked
            set +f
            shift 2
            ;;
        *) set -- ;;
    esac
fi
printf 'tidegate-remote 1\n'
case $#/${1-} in
    1/hello) verb_hello ;;
    1/probe) verb_probe ;;
    1/launch) verb_launch ;;
    1/list) verb_list ;;
    2/describe) verb_describe "$2" ;;
    2/stop) verb_stop "$2" ;;
    2/has) verb_has "$2" ;;
    2/try) verb_try "$2" ;;
    3/put) verb_put "$2" "$3" ;;
    *) fail refused 'this key may only run the verbs of tidegate' ;;
esac
