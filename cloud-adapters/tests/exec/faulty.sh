#!/bin/sh
# Stands between the exec adapter and a program, with the fault that the first argument names.
fault=$1
shift
case $fault in
    Slow) answer=$("$@"); sleep 30; echo "$answer" ;;
    Failing) echo '{"protocol": 1, "error": {"kind": "transient", "message": "500 internal server error"}}' ;;
    Truncated) "$@" | head -c 20 ;;
    CutBeforeAnswer) "$@" >/dev/null; kill -9 $$ ;;
    CutBeforeRequest) kill -9 $$ ;;
    *) echo "no such fault: $fault" >&2; exit 127 ;;
esac
