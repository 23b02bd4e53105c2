#!/bin/bash
# A Slurm array job: every task extracts its share of the videos into one store, without Dask
# between machines. Tasks are independent, so they may run at once or one by one, be preempted,
# killed and requeued. Each shard is complete or absent, and a task that starts again extracts
# what is missing.
#
# Needs    a file system that all nodes share, for the videos and the store; flowpipe in the
#          environment from which you submit (sbatch passes it on)
# Submit   sbatch --array=1-32 array.sh --dataset thumos14 --root /data/thumos14 --out /scratch/th14
#          Arguments after the script are options of `flowpipe extract`. Options before it, as
#          --cpus-per-task=8 --time=4:00:00, take precedence over the lines below.
# GPUs     sbatch --array=1-32 --gres=gpu:2 --cpus-per-task=8 array.sh ...: the flow runs on the GPUs
#          of each task, shared by one worker per core (here four per GPU, which read and encode).
#          Workers of a GPU run concurrently through NVIDIA's MPS: if nvidia-cuda-mps-control and
#          nvidia-smi are installed, each task starts its own daemon, in a private folder, and ends
#          it. If MPS is not allowed, submit with --export=ALL,FLOWPIPE_MPS=no; if the site runs MPS,
#          with CUDA_MPS_PIPE_DIRECTORY set
# Again    submit the whole array once more: finished shares end in seconds. Shares are counted from
#          1 to the size of the array, so --array=3,7 is refused; another size is fine.
# Stops    at the time limit a task publishes its finished videos and requeues itself. After scancel
#          it publishes them too, but is not requeued. Slurm requeues a task that is preempted or whose
#          node fails (--requeue): a failed node costs each worker its open video and at most the videos
#          it finished in the last 60 s (--publish-every).
# Result   exit code 0: all done. 1: some videos are in quarantine, the rest is done. 2: wrong use, or
#          the run is not possible (a full disk, a missing device). 70: a bug of flowpipe.
#          130: interrupted; submit again to resume. All but 0 have the state FAILED.
#
#SBATCH --job-name=flowpipe
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=flowpipe-%A_%a.log

set -u
if [[ ${SLURM_ARRAY_TASK_MIN:-} != 1 || $SLURM_ARRAY_TASK_MAX != "$SLURM_ARRAY_TASK_COUNT" ]]; then
  echo "array.sh: submit with --array=1-N; these tasks do not cover all shares" >&2
  exit 2
fi

workers=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
if ((gpus > 0)); then                         # workers share the GPUs evenly, at least one each
  ((workers = workers < gpus ? gpus : workers / gpus * gpus))
  devices=(--device cuda --gpus "$gpus")
else
  devices=(--device cpu)
fi
if ((gpus > 0 && workers > gpus)) && [[ ${FLOWPIPE_MPS:-yes} == yes && -z ${CUDA_MPS_PIPE_DIRECTORY:-} ]] &&
  command -v nvidia-cuda-mps-control >/dev/null &&
  uuids=$(nvidia-smi --query-gpu=uuid --format=csv,noheader --id="${CUDA_VISIBLE_DEVICES:-}") &&
  mps=$(mktemp -d "${TMPDIR:-/tmp}/flowpipe-mps-XXXXXX"); then
  uuids=${uuids//$'\n'/,}                      # the daemon and its clients number GPUs differently
  trap 'echo quit | CUDA_MPS_PIPE_DIRECTORY=$mps nvidia-cuda-mps-control >/dev/null 2>&1; rm -rf "$mps"' EXIT
  if CUDA_VISIBLE_DEVICES=$uuids CUDA_MPS_PIPE_DIRECTORY=$mps CUDA_MPS_LOG_DIRECTORY=$mps \
    nvidia-cuda-mps-control -d; then
    export CUDA_VISIBLE_DEVICES=$uuids CUDA_MPS_PIPE_DIRECTORY=$mps
  else
    echo "array.sh: MPS does not start; the workers of a GPU take turns on it" >&2
  fi
fi

flowpipe extract "${devices[@]}" "$@" --quiet --workers "$workers" \
  --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" &
extract=$!
again=
trap : TERM                                   # scancel, preemption: Slurm tells flowpipe too
trap 'again=yes; kill -TERM $extract' USR1    # 120 s before the time limit

# A trapped signal ends `wait` early, with a status above 128 while the process still lives.
while wait "$extract"; status=$?; ((status > 128)) && kill -0 "$extract" 2>/dev/null; do :; done

if [[ $again && ($status == 130 || $status == 143) ]]; then  # 143: before planning
  echo "array.sh: time limit: task $SLURM_ARRAY_TASK_ID is requeued" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
