#!/bin/sh
# Entry point of the image, below tini: runs its arguments, and passes SIGTERM on to a flow run.
#
# `prefect flow-run execute` runs the flow in a child process, in a separate session. If
# PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR is `crash`, as in our pods, it ends at SIGTERM without
# informing that child, which is then killed with the container: its run stays Running until somebody
# notices. So the signal is sent to the child instead: the flow stops, its run ends Crashed with the
# reason, what it held is released, and then prefect ends by itself.
set -u

case "${PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR:-}: $*" in
crash:*"flow-run execute"*) ;;
*) exec "$@" ;;
esac

"$@" &
prefect=$!

pass_on() {
    # Before there is a child, the signal is sent to prefect itself.
    flow=$(grep -ls "^PPid:[[:space:]]*$prefect\$" /proc/[0-9]*/status | cut -d/ -f3)
    # shellcheck disable=SC2086 # several children are several words
    kill -TERM ${flow:-$prefect} 2>/dev/null
}
trap pass_on TERM

# A signal ends `wait`, but not the process that it waits for.
while kill -0 "$prefect" 2>/dev/null; do
    wait "$prefect"
    status=$?
done
exit "$status"
