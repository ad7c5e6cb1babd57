from common import *
from trl import SFTTrainer, SFTConfig
from datasets import Dataset
d = Dataset.from_list([{"text": text()} for _ in range(64)])
SFTTrainer(model=model(), args=SFTConfig("sft_out", max_steps=12, logging_steps=3, eval_strategy="steps", eval_steps=6, per_device_train_batch_size=4, report_to=[], use_cpu=True, bf16=False, save_strategy="no"), train_dataset=d, eval_dataset=d.select(range(8)), processing_class=tokenizer()).train()
