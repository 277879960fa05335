# sh modules.sh VERB ...: what build_corpus_load.py tells the guest to do with live patches.
# Ends with 3 when a patched module is missing, 4 when the kernel refuses, 5 when a transition does not end.

LIVEPATCH=/sys/kernel/livepatch
TRACING=/sys/kernel/tracing

seconds() {
  cut -d. -f1 /proc/uptime
}

# settle NAME STATE: waits for the end of a transition; else prints the tasks that are still in STATE
settle() {
  end=$(($(seconds) + 40))
  while [ "$(cat $LIVEPATCH/$1/transition 2>/dev/null)" = 1 ]; do
    if [ $(seconds) -gt $end ]; then
      for task in $(grep -l "$2" /proc/*/task/*/patch_state 2>/dev/null | cut -d/ -f3); do
        cat /proc/$task/comm /proc/$task/stack
      done
      return 5
    fi
    sleep 0.1
  done
}

# load NAME FILE OWNER...
load() {
  name=$1 file=$2
  shift 2
  [ $# = 0 ] || modprobe -a "$@" || exit 3
  insmod $file || exit 4
  rm $file
  settle $name 0 || exit 5
}

# remove NAME
remove() {
  echo 0 > $LIVEPATCH/$1/enabled
  settle $1 1 || exit 5
  end=$(($(seconds) + 40))
  while [ -e $LIVEPATCH/$1 ] && [ $(seconds) -lt $end ]; do
    sleep 0.1
  done
  rmmod $1 || exit 5
}

# watch PREFIX: a kprobe at every traced function of the modules whose names begin so
watch() {
  cd $TRACING
  echo 0 > tracing_on
  n=0
  grep "\[$1" available_filter_functions | tr -d '[]' | while read function module; do
    n=$((n+1))
    echo "p:corpus/p$n $module:$function" >> kprobe_events || echo "no probe: $module:$function" >&2
  done
  echo 1 > events/corpus/enable
}

# counts: what watch saw, and the end of it
counts() {
  cd $TRACING
  cat kprobe_events
  echo =
  cat kprobe_profile
  echo 0 > events/corpus/enable
  echo > kprobe_events
  echo 1 > tracing_on
}

"$@"
