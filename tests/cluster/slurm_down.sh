#!/usr/bin/env bash
# slurm_down.sh DIR [--purge]  - stop the cluster that slurm_up.sh started under DIR.
#
# Cancels the jobs, then stops every daemon by the pid in its own pid file (checked
# against /proc/PID/comm, so that a recycled pid is never hit).  --purge also removes DIR
# and therefore does not wait for the daemons to save their state (under 1 s).
# Idempotent; safe when half of the daemons are already dead.
set -uo pipefail
DIR=${1:?usage: slurm_down.sh DIR [--purge]}
[ -d "$DIR" ] || { echo "slurm_down: $DIR does not exist, nothing to do"; exit 0; }
DIR=$(cd "$DIR" && pwd -P)
export SLURM_CONF=$DIR/etc/slurm.conf

PURGE=0; [ "${2:-}" = --purge ] && PURGE=1

gone() { [ ! -e "/proc/$1/exe" ]; }   # true for a zombie too (PID 1 may reap slowly)

stop() {                        # stop NAME PIDFILE...: TERM all, up to 15 s, then KILL
  local name=$1 f pid pids=(); shift
  for f in "$@"; do
    pid=$(cat "$f" 2>/dev/null) || continue
    rm -f "$f"
    [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || continue
    pids+=("$pid")
    if [ $PURGE = 1 ]; then kill -KILL "$pid"; else kill "$pid"; fi 2>/dev/null
  done
  for pid in "${pids[@]}"; do
    for _ in $(seq 150); do gone "$pid" && continue 2; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
  done
}

kill_tree() {                   # KILL a process and all its descendants
  local c
  for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do kill_tree "$c"; done
  kill -KILL "$1" 2>/dev/null
}

if timeout 3 scontrol ping 2>/dev/null | grep -q UP; then
  timeout 10 squeue -h -o %A 2>/dev/null | sort -u | xargs -r timeout 10 scancel 2>/dev/null
  for _ in $(seq 80); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
fi
stop slurmd "$DIR"/run/slurmd-*.pid
# A slurmstepd (and its tasks) outlives its slurmd by design.  Ours work in DIR; the name is
# the one in comm (Debian's binary is slurmstepd-wlm), and only their own descendants are killed.
for p in /proc/[0-9]*; do
  [ "$(cat "$p/comm" 2>/dev/null)" = slurmstepd ] || continue
  case "$(readlink "$p/cwd" 2>/dev/null)/" in "$DIR"/*) ;; *) continue ;; esac
  kill_tree "${p#/proc/}"
done
stop slurmctld "$DIR/run/slurmctld.pid"
stop slurmdbd  "$DIR/run/slurmdbd.pid"
stop mariadbd  "$DIR/run/mysql.pid"
stop munged    "$DIR/run/munged.pid"
rmdir /sys/fs/cgroup/*/slurm_node[0-9]* 2>/dev/null     # left by SLURM_CGROUP=1; only if empty
[ $PURGE = 1 ] && rm -rf -- "$DIR"
echo "slurm is down"
