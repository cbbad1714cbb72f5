#!/bin/sh
# sbatch recipes/asr/slurm.sh --config recipes/asr/conf/medium.yaml --data.sources '[{path: corpus}]' --data.tokenizer tokenizer.model
# One node with 4 GPUs; a job that is requeued, or started anew, goes on from its last checkpoint.
#SBATCH --job-name=riverrun-asr
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/slurm-%j.log
set -eu
exec srun python -m riverrun.recipes.asr fit "$@" \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.strategy ddp --ckpt_path last
