#!/usr/bin/env bash
# Makes the captured logs anew, in an empty folder: bash run.sh. Needs the packages of ORIGIN.md; downloads nothing.
set -u
here=$(cd "$(dirname "$0")" && pwd); export PYTHONPATH=$here PYTHONWARNINGS=ignore COLUMNS=100
export WANDB_MODE=offline HF_HUB_OFFLINE=1 TRACKIO_DIR=$PWD/trackio CUDA_VISIBLE_DEVICES= TOKENIZERS_PARALLELISM=false
go() { name=$1; shift; "$@" > "$name.log" 2>&1; echo "$name: exit $?"; }
cp "$here"/*.py .
go transformers5-trainer python hf.py                  # in an environment with transformers 4: transformers4-trainer
go trl1-sft python sft.py                              # with TRL 0: trl0-sft
go trl1-grpo python grpo.py                            # with TRL 0: trl0-grpo
sed 's/max_steps=20/max_steps=12/; s/save_steps=10/save_steps=5/; s/hf_out/hf_resume_out/' hf.py > hf_begin.py
python hf_begin.py > transformers5-resume.log 2>&1; python hf_resume.py >> transformers5-resume.log 2>&1
go lightning-rich python pl.py; go lightning-tqdm python pl_tqdm.py
go keras3-bar python ker.py 1; go keras3-lines python ker.py 2
go sentence-transformers python st.py; go stable-baselines3 python sb.py; go ultralytics python yolo.py
go summarywriter python tb.py torch; go tensorboardx python tb.py x; go wandb-nested python wb.py
go torchrun-ranks torchrun --nproc_per_node 2 --tee 3 --log-dir torchrun ddp.py
# train.py, model.py and configurator.py of nanoGPT stand in this folder.
python nano.py; go nanogpt python train.py --dataset=tiny --device=cpu --compile=False --eval_iters=2 --log_interval=1 \
  --block_size=16 --batch_size=4 --n_layer=2 --n_head=2 --n_embd=32 --max_iters=20 --lr_decay_iters=20 --eval_interval=10 \
  --gradient_accumulation_steps=1 --dtype=float32 --out_dir=nano_out
# train.py of timm stands here as timm_train.py, and timg/ holds two classes of sixteen noise images each.
go timm python timm_train.py timg --model test_resnet --num-classes 2 --img-size 32 -b 8 --epochs 2 --workers 0 \
  --log-interval 1 --device cpu --output timm_out --experiment t
