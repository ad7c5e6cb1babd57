from common import *
from trl import GRPOTrainer, GRPOConfig
from datasets import Dataset
d = Dataset.from_list([{"prompt": text(4)} for _ in range(16)])
def length_reward(completions, **k): return [float(len(c.split())) / 16 for c in completions]
def w5_reward(completions, **k): return [float("w5" in c) for c in completions]
tokenizer().save_pretrained("tinyqwen"); model().save_pretrained("tinyqwen")
GRPOTrainer(model="tinyqwen", reward_funcs=[length_reward, w5_reward], args=GRPOConfig("grpo_out", max_steps=6, logging_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=12, beta=0.04, report_to=["tensorboard"], use_cpu=True, bf16=False, save_strategy="no"), train_dataset=d, processing_class=tokenizer()).train()
