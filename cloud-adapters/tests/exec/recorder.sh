#!/bin/sh
# Stands between the exec adapter and a program, and keeps what both say: the first argument is the folder for it.
folder=$1
shift
tee "$folder/$$.request" | "$@" | tee "$folder/$$.answer"
