#!/bin/bash
# A Slurm job array: every task answers its part of the sounds, all into one folder. Copy it, change the numbers, then
#     sbatch cli/job_array.sh recordings answers --task transcribe -f json
# from the root of this program, where it must lie on each machine. A task that was killed: the same command once more.
# With --score each task has a file of scores; the program without --shard, on the same folders, then counts all.
# GNU parallel does the same on one machine:
#     parallel -j 2 python3 qwen_audio.py -q -i recordings -r -o answers --threads 4 --shard {}/8 ::: {1..8}
#SBATCH --job-name=qwen-audio
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=10G
#SBATCH --output=slurm-%A_%a.log
set -eu
sounds=$1 answers=$2
shift 2
exec python3 qwen_audio.py -q -i "$sounds" -r -o "$answers" --threads "${SLURM_CPUS_PER_TASK:-0}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@"
