#!/usr/bin/env bash
# The first process of a small SLURM cluster: `unshare` starts it in namespaces of its own (processes, mounts, network), so that the
# machine's /etc/slurm, ports and processes are not touched, and the kernel ends everything when this process ends. It ends when its
# standard input closes, which also happens when the tests are killed.
#
#   cluster.sh FOLDER CPUS MEMORY_MB [ACCOUNT [LIMITS]]   writes `up` when jobs can be submitted; one node, n1, with one pretended GPU
#
# A cluster whose end was sudden starts again from its folder, as after a power cut (without accounts).
# With the name of an account, accounts are kept: by slurmdbd, in a MariaDB of its own. LIMITS is `looks` (the default: memory is looked at
# each second) or `cgroups`: the kernel holds each job to its memory and finds all its processes.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where munged and the daemons of SLURM are; not every shell of root has it

dir=$1 cpus=$2 memory=$3 account=${4:-} limits=${5:-looks}
rm -rf "$dir/run"
mkdir -p "$dir"/{etc,run,log,state,spool}
chmod 700 "$dir/state"
ip link set lo up
# Names are not looked up on a machine that has no address but 127.0.0.1 (AI_ADDRCONFIG).
ip address add 192.0.2.1/32 dev lo

# A gres called gpu counts device files only: /dev/null under another name.
[ -e "$dir/nvidia0" ] || mknod -m 666 "$dir/nvidia0" c 1 3
printf 'AutoDetect=off\nName=gpu Type=h200 File=%s\n' "$dir/nvidia0" > "$dir/etc/gres.conf"

# Without cgroups a job over its memory is found by a look each second; CI has no writable cgroups.
holding='ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill'
if [ "$limits" = cgroups ]; then
    holding='ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup'
    printf '%s\n' CgroupMountpoint=/sys/fs/cgroup CgroupPlugin=cgroup/v1 ConstrainRAMSpace=yes ConstrainSwapSpace=yes AllowedSwapSpace=0 \
        > "$dir/etc/cgroup.conf"
fi

accounting='AccountingStorageType=accounting_storage/none'
if [ -n "$account" ]; then
    accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment"
    # The database knows root by its user id, over a socket; slurmdbd insists on a private file.
    (umask 077; cat > "$dir/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
PidFile=$dir/run/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
CONF
    )
fi

cat > "$dir/etc/slurm.conf" <<CONF
ClusterName=cvdm
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it starts again (120 s by default).
AuthInfo=cred_expire=10
CredType=cred/munge
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdPidFile=$dir/run/slurmd.pid
SlurmdLogFile=$dir/log/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
MpiDefault=none
$holding
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
EnforcePartLimits=ALL
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
# Days: tests look at all jobs that there were.
MinJobAge=200000
KillWait=5
SlurmdTimeout=20
ReturnToService=2
$accounting
GresTypes=gpu
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:h200:1 State=UNKNOWN
PartitionName=cpu     Nodes=ALL Default=YES MaxTime=1-00:00:00 PriorityTier=10 PreemptMode=OFF
PartitionName=gpu     Nodes=ALL MaxTime=12:00:00 PriorityTier=10 PreemptMode=OFF
PartitionName=preempt Nodes=ALL MaxTime=1-00:00:00 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=scavenge Nodes=ALL MaxTime=1-00:00:00 PriorityTier=1 PreemptMode=CANCEL
PartitionName=closed  Nodes=ALL MaxTime=1-00:00:00 State=DOWN
CONF
# SLURM_CONF would not do: Snakemake's job step drops it before it calls srun.
mkdir -p /etc/slurm
mount --bind "$dir/etc" /etc/slurm
unset SLURM_CONF

wait_for() {  # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until timeout 10 "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "$* failed; see $dir/log" >&2; exit 1; }
        sleep 0.1
    done
}

(umask 077 && head -c 1024 /dev/urandom > "$dir/munge.key")
# Everybody must be able to enter the folder of munge's socket, which is not so in a folder of tests.
mkdir -p /run/munge
mount -t tmpfs -o mode=755 tmpfs /run/munge
munged --key-file="$dir/munge.key" --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" \
    --seed-file="$dir/state/munge.seed" < /dev/null
wait_for 20 munge -n
if [ -n "$account" ]; then
    mariadb-install-db --no-defaults --user=root --datadir="$dir/state/mysql" --skip-test-db \
        --auth-root-authentication-method=socket --auth-root-socket-user=root > "$dir/log/mariadb-install.log" 2>&1 < /dev/null
    mariadbd --no-defaults --user=root --datadir="$dir/state/mysql" --skip-networking --socket="$dir/run/mariadb.socket" \
        --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --performance-schema=off > "$dir/log/mariadbd.log" 2>&1 < /dev/null &
    wait_for 60 mariadb --no-defaults --socket="$dir/run/mariadb.socket" -e 'select 1'
    MYSQL_UNIX_PORT="$dir/run/mariadb.socket" slurmdbd < /dev/null
    wait_for 60 sacctmgr -n list cluster
    sacctmgr -i add cluster cvdm > /dev/null
    sacctmgr -i add account "$account" Cluster=cvdm Description=tests Organization=tests > /dev/null
    sacctmgr -i add user root Account="$account" DefaultAccount="$account" AdminLevel=Administrator > /dev/null
fi
slurmctld < /dev/null
wait_for 30 scontrol ping
slurmd -N n1 < /dev/null
wait_for 30 bash -c 'sinfo -h -p cpu -o %t | grep -qxE "idle|mix|alloc"'
echo up
cat > /dev/null
