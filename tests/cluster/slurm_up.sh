#!/usr/bin/env bash
# slurm_up.sh DIR  - start a private, real, single-host Slurm cluster for tests.
#
# Everything (munge key and socket, MariaDB data, slurmdbd, slurmctld, N slurmd,
# spool, logs, pid files) lives under DIR; nothing of /etc is read or written and no
# systemd unit is used.  Run as root.  Idempotent: a second call with the same DIR
# only starts the daemons that are not running and re-checks that the nodes are idle.
#
#   slurm_up.sh ./sl && . ./sl/env.sh && srun -N2 hostname
#
# Debian 12 packages:
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge \
#       slurmdbd mariadb-server                 # last two only for SLURM_ACCT=1
#
# Settings (environment):
#   SLURM_NODES=4       number of slurmd daemons (node1..nodeN) on this host
#   SLURM_CPUS=16       CPUs that each node claims (config_overrides: need not exist)
#   SLURM_MEM=16000     MB that each node claims
#   SLURM_GPUS=8        fake GPUs per node (character-device stubs), 0 = none
#   SLURM_ACCT=1        1 = mariadbd + slurmdbd (sacct works), 0 = no accounting
#   SLURM_CGROUP=0      1 = task/cgroup memory limits (real OUT_OF_MEMORY); needs a
#                       mounted cgroup v1 memory controller; 0 = no cgroup at all
#   SLURM_ENFORCE=none  "associations" = unknown --account is rejected (as real sites do)
#   SLURM_BASE_PORT=16800  ports used: base .. base+10+N
#   SLURM_SLURMD_TIMEOUT=15  seconds until a dead slurmd is DOWN and its jobs NODE_FAIL
#                       (seen: about twice this)
#   SLURM_CRED_EXPIRE=5 seconds that a requeued job waits before it may start again
set -euo pipefail

DIR=${1:?usage: slurm_up.sh DIR}
mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd -P)
N=${SLURM_NODES:-4} CPUS=${SLURM_CPUS:-16} MEM=${SLURM_MEM:-16000} GPUS=${SLURM_GPUS:-8}
ACCT=${SLURM_ACCT:-1} CGROUP=${SLURM_CGROUP:-0} ENFORCE=${SLURM_ENFORCE:-none}
BASE=${SLURM_BASE_PORT:-16800} SLURMD_TIMEOUT=${SLURM_SLURMD_TIMEOUT:-15}
CTLD_PORT=$BASE DBD_PORT=$((BASE + 1)) SQL_PORT=$((BASE + 2)) NODE_PORT=$((BASE + 11))
HOST=$(hostname -s)
PATH=$PATH:/usr/sbin:/usr/local/sbin

die()   { echo "slurm_up: $*" >&2; exit 1; }
alive() {                       # alive NAME PIDFILE: is that very daemon running?
  # /proc/PID/exe is gone for a zombie (kill -0 is not enough: PID 1 of a VM or container may
  # reap slowly) and comm guards against a recycled pid.
  local pid; pid=$(cat "$2" 2>/dev/null) && [ -n "$pid" ] && [ -e "/proc/$pid/exe" ] &&
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}
wait_for() {                                                    # seconds command...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

[ "$(id -u)" = 0 ] || die "run me as root"
for b in munged slurmctld slurmd sinfo; do command -v $b >/dev/null || die "$b is not installed"; done
[ "$ACCT" = 0 ] || for b in slurmdbd mariadbd mariadb-install-db; do
  command -v $b >/dev/null || die "$b is not installed (or set SLURM_ACCT=0)"; done

mkdir -p "$DIR"/{etc,run,log,state,spool,dev}
chmod 755 "$DIR" "$DIR"/{etc,run,log}

# ---------------------------------------------------------------- configuration files
if [ ! -s "$DIR/etc/munge.key" ]; then
  (umask 077; head -c 1024 /dev/urandom > "$DIR/etc/munge.key")
fi

GRES_NODE= GRES_TYPES= ; : > "$DIR/etc/gres.conf"
if [ "$GPUS" -gt 0 ]; then
  # slurmd 22.05 ignores a GPU without File=, and wants a device node: stubs like /dev/null.
  for ((i = 0; i < GPUS; i++)); do
    [ -c "$DIR/dev/gpu$i" ] || mknod "$DIR/dev/gpu$i" c 1 3
  done
  printf 'AutoDetect=off\nName=gpu Type=fake File=%s/dev/gpu[0-%d]\n' "$DIR" $((GPUS - 1)) > "$DIR/etc/gres.conf"
  GRES_TYPES="GresTypes=gpu" GRES_NODE="Gres=gpu:fake:$GPUS"
fi

if [ "$CGROUP" = 1 ]; then
  TASK="ProctrackType=proctrack/linuxproc
TaskPlugin=task/cgroup"
  printf 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nConstrainCores=no\nConstrainDevices=no\n' > "$DIR/etc/cgroup.conf"
else
  TASK="ProctrackType=proctrack/linuxproc
TaskPlugin=task/none"
  rm -f "$DIR/etc/cgroup.conf"
fi

if [ "$ACCT" = 1 ]; then
  ACCT_LINES="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
# (sic) the munge socket that clients use towards slurmdbd; AuthInfo is not used there
AccountingStoragePass=$DIR/run/munge.sock
$( [ "$ENFORCE" = none ] || echo "AccountingStorageEnforce=$ENFORCE" )
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5"
  (umask 077; cat > "$DIR/etc/slurmdbd.conf" <<E
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=root
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
E
  )
else
  ACCT_LINES="AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"
fi

cat > "$DIR/etc/slurm.conf" <<E
ClusterName=lab
# The memory cgroups are named by node and job: those of two clusters on one host must not meet.
FirstJobId=$(( 1 + BASE % 16800 * 1000 ))
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire: a requeued batch job may not start before its old credential expires (default 120 s)
AuthInfo=socket=$DIR/run/munge.sock,cred_expire=${SLURM_CRED_EXPIRE:-5}
MpiDefault=none
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
$TASK
# nodes claim more than the host has
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
# short timers: tests must see state changes in seconds
SlurmdTimeout=$SLURMD_TIMEOUT
InactiveLimit=0
KillWait=3
MinJobAge=300
UnkillableStepTimeout=20
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
$ACCT_LINES
$GRES_TYPES
NodeName=node[1-$N] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[$NODE_PORT-$((NODE_PORT + N - 1))] CPUs=$CPUS RealMemory=$MEM $GRES_NODE State=UNKNOWN
# main: default, is preempted (requeue) by high; scav: is preempted (cancel) by high
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 PriorityTier=10 PreemptMode=REQUEUE State=UP
PartitionName=scav Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=1  PreemptMode=CANCEL State=UP
PartitionName=high Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=90 PreemptMode=OFF State=UP
E
[ "$N" -gt 1 ] || sed -i -e 's/node\[1-1\]/node1/' -e "s/Port=\[$NODE_PORT-$NODE_PORT\]/Port=$NODE_PORT/" "$DIR/etc/slurm.conf"

cat > "$DIR/env.sh" <<E
export SLURM_CONF=$DIR/etc/slurm.conf
case ":\$PATH:" in *:/usr/sbin:*) ;; *) export PATH=\$PATH:/usr/sbin ;; esac
E
export SLURM_CONF=$DIR/etc/slurm.conf

# --------------------------------------------------------------------------- daemons
# Every daemon forks itself and writes a pid file; a stale one (dead pid) is ignored.
if ! alive munged "$DIR/run/munged.pid"; then
  rm -f "$DIR"/run/munge.sock*
  munged --key-file="$DIR/etc/munge.key" --socket="$DIR/run/munge.sock" \
         --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munge.seed"
fi

if [ "$ACCT" = 1 ]; then
  SQL="mariadb --no-defaults --socket=$DIR/run/mysql.sock -uroot"
  if ! alive mariadbd "$DIR/run/mysql.pid"; then
    # A server that starts removes every #sql-temptable of its temporary directory, another server's too.
    mkdir -p "$DIR/tmp"
    [ -d "$DIR/mysql/mysql" ] || TMPDIR="$DIR/tmp" mariadb-install-db --no-defaults --user=root \
        --datadir="$DIR/mysql" --auth-root-authentication-method=normal --skip-test-db \
        > "$DIR/log/mysql-install.log" 2>&1 || die "MariaDB's tables were not made, see $DIR/log/mysql-install.log"
    TMPDIR="$DIR/tmp" setsid mariadbd --no-defaults --user=root --datadir="$DIR/mysql" --socket="$DIR/run/mysql.sock" \
        --pid-file="$DIR/run/mysql.pid" --bind-address=127.0.0.1 --port=$SQL_PORT \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 \
        --innodb-lock-wait-timeout=900 --performance-schema=off --skip-log-bin \
        > "$DIR/log/mysql.log" 2>&1 < /dev/null &
    wait_for 90 $SQL -e 'select 1' || die "mariadbd did not start, see $DIR/log/mysql.log"
    $SQL -e "create database if not exists slurm_acct;
             create user if not exists slurm@127.0.0.1 identified by 'slurm';
             create user if not exists slurm@localhost identified by 'slurm';
             grant all on slurm_acct.* to slurm@127.0.0.1; grant all on slurm_acct.* to slurm@localhost;"
  fi
  # slurmdbd reads slurmdbd.conf from the directory of SLURM_CONF
  alive slurmdbd "$DIR/run/slurmdbd.pid" || slurmdbd
  wait_for 90 sacctmgr -n list cluster || die "slurmdbd did not start, see $DIR/log/slurmdbd.log"
  # the cluster must be known before slurmctld asks for its TRES
  sacctmgr -n list cluster format=cluster | grep -qw lab || {
    sacctmgr -i add cluster lab >/dev/null
    sacctmgr -i add account test cluster=lab >/dev/null
    sacctmgr -i add user root account=test adminlevel=admin >/dev/null
  }
fi

alive slurmctld "$DIR/run/slurmctld.pid" || slurmctld -f "$SLURM_CONF"
wait_for 60 scontrol ping || die "slurmctld did not start, see $DIR/log/slurmctld.log"
for ((i = 1; i <= N; i++)); do
  mkdir -p "$DIR/spool/node$i"
  alive slurmd "$DIR/run/slurmd-node$i.pid" || slurmd -N "node$i" -f "$SLURM_CONF"
done

# (not "sinfo -t idle": that also lists nodes that are idle and drained)
all_up() { [ "$(sinfo -h -N -p main -o '%t' | grep -cxE 'idle|mix|alloc|comp')" = "$N" ]; }
if ! wait_for 8 all_up; then      # e.g. nodes left drained or down by an earlier test
  scontrol update nodename="node[1-$N]" state=resume 2>/dev/null || true
  wait_for 30 all_up || { sinfo -R >&2; die "nodes are not up, see $DIR/log"; }
fi
echo "slurm is up: . $DIR/env.sh"
