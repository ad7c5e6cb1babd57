from common import *
from transformers import Trainer, TrainingArguments
from torch.utils.data import Dataset
class D(Dataset):
    def __init__(s, n): s.x = [torch.tensor([(a + i) % 123 for i in range(16)]) for a in range(n)]
    def __len__(s): return len(s.x)
    def __getitem__(s, i): return {"input_ids": s.x[i], "labels": s.x[i]}
Trainer(model=model(), args=TrainingArguments("hf_out", max_steps=20, logging_steps=2, eval_strategy="steps", eval_steps=10, save_steps=10, per_device_train_batch_size=4, report_to=["tensorboard", "wandb", "trackio"], learning_rate=1e-2, use_cpu=True, run_name="tiny"), train_dataset=D(64), eval_dataset=D(16)).train()
