import torch, random
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from tokenizers import Tokenizer, models, pre_tokenizers
torch.manual_seed(0); random.seed(0); torch.set_num_threads(1)
WORDS = ["<pad>", "<eos>", "<unk>"] + [f"w{i}" for i in range(120)]
def tokenizer():
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    k = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    k.model_input_names = ["input_ids", "attention_mask"]; k.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return k
def model():
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, eos_token_id=1, bos_token_id=None))
def text(n=12):
    a = random.randint(3, 60)
    return " ".join(WORDS[3 + (a + i) % 120] for i in range(n))
