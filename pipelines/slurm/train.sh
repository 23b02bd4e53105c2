#!/bin/bash
# A Slurm job that trains one stream on the GPUs of one node, a process for each, or on its cores.
# Submit one job for each stream and split; they may run at once.
#
# Needs    a file system that the nodes share, for the store and the run; flowpipe with torch in the
#          environment from which you submit (sbatch passes it on)
# Submit   sbatch --gres=gpu:4 train.sh /scratch/ucf101 --modality flow --split 1 -o /scratch/runs/flow1
#          Arguments after the script are options of `flowpipe train`. Options before it, as
#          --cpus-per-task=16 --time=4:00:00, take precedence over the lines below.
# GPUs     sbatch --gres=gpu:4 ...: four processes train together and share the batch of the recipe.
#          Cores are for the loader workers: --cpus-per-task=16 gives each GPU three of them. Without
#          --gres it trains on the cores
# Again    submit it once more: it resumes the run. With --resume it fails unless there is a run
# Stops    120 s before the time limit it ends and requeues itself, and resumes from the last
#          checkpoint: at most --save-every seconds (600) are computed twice. After scancel it is not
#          requeued
# Logs     flowpipe-train-JOB.log; the run folder has log.csv and steps.csv
#
#SBATCH --job-name=flowpipe-train
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=4G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=flowpipe-train-%j.log

set -u
cores=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
if ((gpus > 0)); then
  devices=(--device cuda --devices "$gpus")
else
  gpus=1
  devices=(--device cpu)
fi
workers=$((cores / gpus - 1))                 # a core for each training process, the rest for loader workers
((workers > 0)) || workers=1

flowpipe train "${devices[@]}" --workers "$workers" "$@" &
train=$!
again=
trap 'kill -TERM $train' TERM                 # scancel, preemption
trap 'again=yes; kill -TERM $train' USR1      # 120 s before the time limit

# A trapped signal ends `wait` early, with a status above 128 while the process still lives.
while wait "$train"; status=$?; ((status > 128)) && kill -0 "$train" 2>/dev/null; do :; done

if [[ $again && ($status == 130 || $status == 143) ]]; then
  echo "train.sh: time limit: the job is requeued" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
