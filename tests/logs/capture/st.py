import torch; torch.manual_seed(0); torch.set_num_threads(1)
from common import tokenizer, text
from transformers import BertConfig, BertModel
tokenizer().save_pretrained("tinybert"); BertModel(BertConfig(vocab_size=123, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)).save_pretrained("tinybert")
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses, models
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
w = models.Transformer("tinybert", max_seq_length=16); m = SentenceTransformer(modules=[w, models.Pooling(32)], device="cpu")
from datasets import Dataset
d = Dataset.from_list([{"sentence1": text(6), "sentence2": text(6), "score": (i % 10) / 10} for i in range(64)])
ev = EmbeddingSimilarityEvaluator(d["sentence1"], d["sentence2"], d["score"], name="dev")
SentenceTransformerTrainer(m, SentenceTransformerTrainingArguments("st_out", max_steps=12, logging_steps=3, eval_strategy="steps", eval_steps=6, per_device_train_batch_size=8, report_to=[], use_cpu=True, save_strategy="no"), train_dataset=d, eval_dataset=d, loss=losses.CosineSimilarityLoss(m), evaluator=ev).train()
