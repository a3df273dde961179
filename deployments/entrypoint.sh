#!/bin/sh
# What the image starts, below tini: the command that it is given. A flow run gets its SIGTERM, too.
#
# `prefect flow-run execute` runs the flow in a child, in a session of its own. Where
# PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR is `crash`, as in our pods, it ends at SIGTERM without a
# word to that child, which is then killed with the container: its run stays Running until somebody
# notices. So the signal goes to the child instead: the flow stops, its run ends Crashed with the
# reason, what it held is free for others, and then prefect ends by itself.
set -u

case "${PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR:-}: $*" in
crash:*"flow-run execute"*) ;;
*) exec "$@" ;;
esac

"$@" &
prefect=$!

pass_on() {
    # Before there is a child, prefect itself is asked to end.
    flow=$(grep -ls "^PPid:[[:space:]]*$prefect\$" /proc/[0-9]*/status | cut -d/ -f3)
    # shellcheck disable=SC2086 # several children are several words
    kill -TERM ${flow:-$prefect} 2>/dev/null
}
trap pass_on TERM

# A signal ends `wait`, but not what it waits for.
while kill -0 "$prefect" 2>/dev/null; do
    wait "$prefect"
    status=$?
done
exit "$status"
