#!/bin/bash
# One Slurm job as one Dask cluster: a scheduler, a single-threaded worker per task, and
# `flowpipe extract` as the client. Unlike array.sh it keeps all cores busy to the end, and one long
# video that is split in time (--split) uses all of them. But the job starts only when all its cores
# are free at once.
#
# Needs    a file system that all nodes share, for the videos, the store and the folder from which you
#          submit; flowpipe in the environment from which you submit (sbatch passes it on)
# Submit   sbatch --ntasks=64 dask.sh --dataset thumos14 --root /data/thumos14 --out /scratch/th14
#          Arguments after the script are options of `flowpipe extract`. Scheduler and client run
#          beside the workers of the first node and need little time.
# GPUs     sbatch --ntasks=8 --gpus-per-task=1 dask.sh ..., a GPU for each worker; or several workers
#          per GPU: --nodes=2 --ntasks-per-node=8 --gres=gpu:4. These run concurrently through NVIDIA's
#          MPS: if nvidia-cuda-mps-control and nvidia-smi are installed, the job starts its own daemon
#          on each node, in a private folder, and ends it. If MPS is not allowed, submit with
#          --export=ALL,FLOWPIPE_MPS=no; if the site runs MPS, with CUDA_MPS_PIPE_DIRECTORY set
# Again    submit it once more: it extracts what is missing. At the time limit it publishes its finished
#          videos and requeues itself; after scancel it is not requeued. A worker that is killed or lost
#          with its node costs its open video and at most the videos that it finished in the last 60 s
#          (--publish-every).
# Access   scheduler and workers use TLS with a key of this job, in the private folder
#          flowpipe-JOB.cluster, which is removed at the end: no other user can connect to them
# Logs     flowpipe-JOB.log, and flowpipe-JOB.dask.log of scheduler and workers
# Result   exit code 1, state FAILED: some videos are in quarantine, the rest is done.
#
#SBATCH --job-name=flowpipe
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=flowpipe-%j.log

set -u
log=$PWD/flowpipe-$SLURM_JOB_ID.dask.log
cluster=$PWD/flowpipe-$SLURM_JOB_ID.cluster   # private: it holds the key of the cluster
trap 'rm -rf "$cluster"' EXIT
rm -rf "$cluster"                             # left by this job before it was requeued
flowpipe cluster config "$cluster" || exit 2
export DASK_CONFIG=$cluster/dask.yaml

dask scheduler --scheduler-file "$cluster/scheduler.json" --protocol tls --port 0 \
  --no-dashboard --dashboard-address 127.0.0.1:0 >>"$log" 2>&1 &
scheduler=$!

gpus=${SLURM_GPUS_ON_NODE:-0}
tasks=${SLURM_TASKS_PER_NODE:-1}               # such as 8(x2), or 8,7: the first node counts
tasks=${tasks%%[(,]*}
device=cpu
((gpus > 0)) && device=cuda

# On each node: run a daemon of MPS until its file is removed, which holds the settings to reach it. GPUs
# are named by UUID, because the daemon and its clients number them differently.
serve_mps='file=$0/$SLURMD_NODENAME
trap : TERM                                   # scancel: the workers need the daemon to the end
command -v nvidia-cuda-mps-control >/dev/null &&
  uuids=$(nvidia-smi --query-gpu=uuid --format=csv,noheader --id="${CUDA_VISIBLE_DEVICES:-}") &&
  mps=$(mktemp -d "${TMPDIR:-/tmp}/flowpipe-mps-XXXXXX") || { : >"$file"; exit; }
export CUDA_VISIBLE_DEVICES=${uuids//[[:space:]]/,} CUDA_MPS_PIPE_DIRECTORY=$mps CUDA_MPS_LOG_DIRECTORY=$mps
if nvidia-cuda-mps-control -d; then
  declare -p CUDA_VISIBLE_DEVICES CUDA_MPS_PIPE_DIRECTORY >"$file.part"
  mv "$file.part" "$file"
  while [[ -e $file ]]; do sleep 1; done
  echo quit | nvidia-cuda-mps-control >/dev/null 2>&1
else
  echo "dask.sh: MPS does not start; the workers of a GPU take turns on it"
  : >"$file"
fi
rm -rf "$mps"'
mps=
if ((gpus > 0 && tasks > gpus)) && [[ ${FLOWPIPE_MPS:-yes} == yes && -z ${CUDA_MPS_PIPE_DIRECTORY:-} ]]; then
  mkdir "$cluster/mps"
  srun --overlap --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=0 \
    bash -c "$serve_mps" "$cluster/mps" >>"$log" 2>&1 &
  mps=$!
  for _ in {1..300}; do                       # a minute; a node without an answer runs without MPS
    files=("$cluster"/mps/*)
    [[ -e ${files[0]} && ${#files[@]} == "$SLURM_JOB_NUM_NODES" && ${files[*]} != *.part* ]] && break
    kill -0 "$mps" 2>/dev/null || break
    sleep 0.2
  done
fi

# Slurm may show every task all GPUs of its node: each task keeps one, and its worker sees no other.
one_gpu='[[ -s $0/$SLURMD_NODENAME ]] && . "$0/$SLURMD_NODENAME"
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-}"
((${#gpus[@]})) && export CUDA_VISIBLE_DEVICES=${gpus[SLURM_LOCALID % ${#gpus[@]}]}
exec "$@"'
# --kill-on-bad-exit=0: a lost worker does not end the others.
srun --kill-on-bad-exit=0 bash -c "$one_gpu" "$cluster/mps" \
  dask worker --scheduler-file "$cluster/scheduler.json" --protocol tls --nthreads 1 --nworkers 1 \
  --no-dashboard --dashboard-address 127.0.0.1:0 \
  --memory-limit "${SLURM_MEM_PER_CPU:-0}MB" --local-directory "${TMPDIR:-/tmp}" \
  --death-timeout 60 >>"$log" 2>&1 &
workers=$!

flowpipe extract --device "$device" "$@" --quiet --workers "$SLURM_NTASKS" \
  --scheduler "$cluster/scheduler.json" &
extract=$!
again=
trap : TERM                                   # scancel, preemption: Slurm tells flowpipe too
trap 'again=yes; kill -TERM $extract' USR1    # 120 s before the time limit

# A trapped signal ends `wait` early, with a status above 128 while the process still lives.
while wait "$extract"; status=$?; ((status > 128)) && kill -0 "$extract" 2>/dev/null; do :; done
kill -TERM "$workers" "$scheduler" 2>/dev/null
wait "$workers" "$scheduler"
[[ $mps ]] && rm -r "$cluster/mps" && wait "$mps"

if [[ $again && ($status == 130 || $status == 143) ]]; then  # 143: before planning
  echo "dask.sh: time limit: the job is requeued" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
